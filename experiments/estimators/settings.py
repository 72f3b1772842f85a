"""From an estimator's parameters to the configuration of its training."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, nearest
from experiments.config import (
    AUTOMATIC,
    FAMILIES,
    Config,
    choose_families,
    family_override,
    load_config,
)
from models import MODELS

# What X and y, or the estimator, decide.
DECIDED = (
    *("data.root", "data.simulated", "data.task", "data.label", "data.labels", "data.group"),
    *("data.numeric", "data.categorical", "data.split.kind", "data.split.fold", "data.split.folds"),
    *("data.split.batch", "data.split.file", "data.cache_dir", "data.verify", "exp_name"),
    *("runs_dir", "report", "audit", "baselines"),
)
# Nobody reads what these would write.
LEAN = {
    "baselines.enabled": False,
    "audit.enabled": False,
    "report.enabled": False,
    "report.resamples": 0,
    "checkpoint.save_top_k": 0,
    "checkpoint.save_last": False,
    "checkpoint.every_steps": None,
    "checkpoint.keep_every_epochs": None,
}


def as_text(value: Any) -> str:
    """A value of Python as the command line has it; NumPy's numbers too."""
    return json.dumps(value, default=_plain, ensure_ascii=False)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        return value.tolist()
    if isinstance(value, Path):
        return str(value)
    raise UsageError(f"settings: {value!r} cannot be written as YAML; give numbers, text or lists")


def build_config(
    source: str,
    model: str | None,
    settings: Mapping[str, Any] | None,
    decided: Mapping[str, Any],
) -> Config:
    """The configuration of a name or file, with a model, and with settings by dotted key.

    ``decided`` are settings that the estimator makes itself.
    """
    chosen = dict(settings or {})
    for key in chosen:
        for own in DECIDED:
            if f"{key}.".startswith(f"{own}.") or own.startswith(f"{key}."):
                raise UsageError(f"settings: {key} cannot be set, the estimator decides {own}")
    if chosen.get("data.cache") == "disk":
        raise UsageError("settings: an estimator keeps no scans on disk; set memory or none")
    lines = [(key, as_text(value)) for key, value in (LEAN | dict(decided)).items()]
    base = load_config(str(source), lines)
    if model is not None and model != base.model.name:
        if model not in (*MODELS, AUTOMATIC) and "." not in model:
            raise UsageError(
                f"model: no model is called '{model}'{nearest(model, [*MODELS, AUTOMATIC])}"
            )
        params = choose_families(FAMILIES, None).get(model, {})
        lines.append(family_override(base.model, model, params))
    lines += [(str(key), as_text(value)) for key, value in chosen.items()]
    return load_config(str(source), lines)
