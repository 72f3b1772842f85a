"""What a configuration leaves to the cohort."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# In place of transforms, and of a model's name: they are chosen within the training set.
AUTOMATIC = "auto"


def is_automatic(config: Any) -> bool:
    """Whether a ``Config`` leaves transforms or the model to the cohort."""
    return AUTOMATIC in (config.model.name, *config.data.transforms)


def keep_automatic(config: Any, before: Mapping[str, Any]) -> None:
    """Replace ``auto`` by what was chosen for a run, whose plain settings are ``before``."""
    data = config.data
    if AUTOMATIC in data.transforms:
        chosen = {"transforms": before["data"]["transforms"]}
        data.transforms = data.model_copy(update=chosen).transforms
    if config.model.name == AUTOMATIC:
        config.model = type(config.model).model_validate(before["model"])
