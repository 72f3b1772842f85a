"""Whether a cohort has what a model takes: spectra, covariates, or both."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from datasets.cohort import SPECTRA_FILE
from datasets.errors import UsageError
from experiments.builders.data import Data
from experiments.config import find_named
from models import MODELS

# The argument by which a model is told the size of a modality, and with it that it takes it.
SPECTRA, COVARIATES = "spec_len", "tab_dim"


def check_modalities(name: str, model: Callable[..., Any], data: Data) -> None:
    """Refuse a model of spectra where there are none, and one of covariates likewise.

    Args:
        name: The model's, as configured.
        model: Its class; one of the user's own may do with no covariates, and is asked itself.
        data: Of the run.

    Raises:
        UsageError: Names the models that would do.
    """
    takes = inspect.signature(model).parameters
    if not data.cohort.has_spectra and SPECTRA in takes:
        raise UsageError(
            f"model.name: '{name}' takes spectra, and the cohort {data.cohort.root.name} has none "
            f"(no {SPECTRA_FILE}); choose {_without(SPECTRA)}"
        )
    if not data.tab_dim and name in MODELS and COVARIATES in takes:
        raise UsageError(
            f"model.name: '{name}' takes covariates, and none is named for the cohort "
            f"{data.cohort.root.name}; name some by data.numeric and data.categorical, or choose "
            f"{_without(COVARIATES)}"
        )


def _without(modality: str) -> str:
    """The models that do not take a modality."""
    names = [
        name
        for name in MODELS
        if modality not in inspect.signature(find_named(name, MODELS, "model.name")).parameters
    ]
    return f"{', '.join(names[:-1])} or {names[-1]}"
