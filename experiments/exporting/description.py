"""What a user of an exported file has to know: inputs, outputs, preprocessing, model, members."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from datasets.cohort import LARGEST_NUMBER, MISSING_TEXT
from datasets.covariates import MISSING
from experiments.command_line import version
from experiments.config import ComponentConfig
from experiments.exporting.graph import (
    CALIBRATED,
    COVARIATES,
    FREE,
    LOGITS,
    MASK,
    PROBABILITIES,
    SPECTRA,
    VALUES,
)

if TYPE_CHECKING:
    from experiments.exporting.trained_model import TrainedModel

FORMAT, VERSION = "scanfire export", 1
WHERE = (
    "Outside of the file. Spectra: on `axis_in`, then `transforms` in their order. Covariates: as "
    "`covariates` tells. The file takes their results."
)
COVARIATE_RULE = (
    "A cell in `missing_text` is missing. Numeric: x = log1p(x) where `log`; a missing x, and "
    "each x where `empty`, is `median`. With `edges` of more than one number the features are, "
    "for bins k, clip((x - edges[k]) / (edges[k + 1] - edges[k]), 0, 1), in the first bin without "
    "the limit 0, in the last without 1; with one edge x - edges[0]; without `edges` x. Each is "
    "then (feature - mean) / spread. Next, for each column of `indicators`, 1 where the value is "
    "missing (or the column is `empty`), else 0. Last, for each column of `categorical` and each "
    "of its categories, 1 where the text is the category (whole numbers without a fraction, a "
    "missing value as `missing_category`), else 0. Then limited to `largest` on both sides, as "
    "float32."
)


def describe(trained: TrainedModel, kind: str, inputs: Sequence[str]) -> dict[str, Any]:
    """The description of an exported model, in plain types; ``inputs`` are those of the file."""
    sizes = trained.sizes
    found: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "kind": kind,
        "run": trained.name,
        "task": trained.task,
        "class_names": trained.class_names,
        "inputs": {name: _input(name, sizes) for name in inputs},
        "outputs": _outputs(trained, kind),
        "temperature": trained.temperature,
        "thresholds": dict(trained.thresholds),
        "preprocessing": {
            "where": WHERE,
            "axis_in": _plain(trained.transforms.state_dict()["axis"]),
            "axis": _plain(trained.transforms.axis),
            "transforms": _transforms(trained) if sizes["spec_len"] else [],
            "covariates": _covariates(trained),
        },
        "members": [{"name": name, "weight": weight} for name, weight in trained.members.items()],
        "model": {
            "settings": trained.config.model.model_dump(mode="json"),
            "sizes": dict(sizes),
            "parameters": sum(p.numel() for p in trained.model.parameters()),
        },
        "made_with": {"scanfire": version(), "torch": str(torch.__version__)},
    }
    if trained.scaler is not None:
        found["targets"] = trained.scaler.state_dict()
    return found


def _input(name: str, sizes: dict[str, int]) -> dict[str, Any]:
    last = {SPECTRA: [sizes["spec_len"]], MASK: [], COVARIATES: [sizes["tab_dim"]]}[name]
    content = {
        SPECTRA: "transformed scans of each sample; what stands in padded scans does not matter",
        MASK: "true for a scan, false for padding; each sample has a scan",
        COVARIATES: "encoded covariates",
    }[name]
    dtype = "bool" if name == MASK else "float32"
    return {"type": dtype, "shape": [*FREE[name], *last], "content": content}


def _outputs(trained: TrainedModel, kind: str) -> dict[str, Any]:
    softmax = "sigmoid" if trained.task == "multilabel" else "softmax"
    told = {LOGITS: ("float32", "before " + softmax)}
    if trained.task == "regression":
        told[LOGITS] = ("float32", "standardised values")
        told[VALUES] = ("float64", "logits * targets.std + targets.mean: in the targets' units")
    else:
        told[PROBABILITIES] = ("float64", f"{softmax} of the logits")
        if trained.temperature is not None:
            told[CALIBRATED] = ("float64", f"{softmax} of logits / temperature")
    shape = ["batch", len(trained.class_names)]
    if kind == "safetensors":  # the model itself gives logits alone
        told = {LOGITS: told[LOGITS]}
    return {
        name: {"type": dtype, "shape": shape, "content": content}
        for name, (dtype, content) in told.items()
    }


def _transforms(trained: TrainedModel) -> list[dict[str, Any]]:
    """Name, all parameters, learned values and the rule of each."""
    found = []
    steps = trained.transforms
    for spec, transform in zip(trained.config.data.transforms, steps.transforms, strict=True):
        named = ComponentConfig(name=spec) if isinstance(spec, str) else spec
        defaults = {
            name: parameter.default
            for name, parameter in inspect.signature(type(transform)).parameters.items()
            if parameter.default is not parameter.empty
        }
        state = transform.state_dict() if hasattr(transform, "state_dict") else {}
        found.append(
            {
                "name": named.name,
                "params": _plain({**defaults, **named.params}),
                "state": _plain(state),
                "rule": inspect.getdoc(type(transform)) or "",
            }
        )
    return found


def _covariates(trained: TrainedModel) -> dict[str, Any]:
    state = trained.encoder.state_dict()
    numeric, start = [], 0
    for number, column in enumerate(state["numeric"]):
        edges = state["edges"][number] if "edges" in state else None
        width = 1 if edges is None else max(1, len(edges) - 1)
        own = slice(start, start + width)
        start += width
        numeric.append(
            {
                "column": column,
                "log": column in state["log"],
                "empty": column in state["empty"],
                "median": state["median"][number],
                "edges": edges,
                "mean": state["mean"][own] if state["scale"] else [0.0] * width,
                "spread": state["spread"][own] if state["scale"] else [1.0] * width,
            }
        )
    return {
        "rule": COVARIATE_RULE,
        "numeric": numeric,
        "indicators": state["had_missing"] if state["missing_indicators"] else [],
        "categorical": state["categories"],
        "features": trained.encoder.feature_names,
        "missing_text": sorted(MISSING_TEXT),
        "missing_category": MISSING,
        "largest": LARGEST_NUMBER,
    }


def _plain(value: Any) -> Any:
    """Tensors and arrays as lists, without a change of a digit."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().tolist()
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return value
