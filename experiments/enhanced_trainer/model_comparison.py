"""Several models on the same samples: a table and their curves."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn
from torch.nn import functional

from datasets.errors import UsageError
from engine.metrics import METRICS, TASKS, UNDEFINED, EpochOutputs, split_target
from engine.reporting import figure_text
from engine.statistics import Interval, delong_test
from experiments.comparison import metric_bars, write_comparison_files
from experiments.report.figures import Section

BYTES_IN_MB = 10**6
# Parameters that belong to the model itself, not to one of its modules.
OWN = "(own)"


def summarise_model(model: nn.Module) -> dict[str, Any]:
    """Count parameters; one that several modules share is counted once, in the first of them.

    ``model`` (its class), ``parameters``, ``trainable``, ``size_mb`` (parameters and buffers, in
    10^6 bytes) and ``modules``: name of each top-level module -> ``parameters``, ``trainable``.

    Example:
        >>> summary = summarise_model(nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1)))
        >>> summary["parameters"], summary["modules"]["0"]["parameters"]
        (13, 9)
    """
    modules: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        top = name.partition(".")[0] if "." in name else OWN
        counts = modules.setdefault(top, {"parameters": 0, "trainable": 0})
        counts["parameters"] += parameter.numel()
        counts["trainable"] += parameter.numel() * parameter.requires_grad
    held = [*model.parameters(), *model.buffers()]
    return {
        "model": type(model).__name__,
        "parameters": sum(counts["parameters"] for counts in modules.values()),
        "trainable": sum(counts["trainable"] for counts in modules.values()),
        "size_mb": sum(t.numel() * t.element_size() for t in held) / BYTES_IN_MB,
        "modules": modules,
    }


P_VALUE = "delong_p"
ABOUT_MODEL = ("parameters", "trainable", "size_mb", "seconds")
Measure = Callable[[nn.Module], tuple[dict[str, float], EpochOutputs]]


def compare(
    models: Mapping[str, nn.Module], measure: Measure
) -> tuple[pd.DataFrame, dict[str, EpochOutputs]]:
    """Measure several models in the same way.

    Returns one row per model: its name, the ``loss`` (:func:`common_loss`), the metrics,
    ``parameters``, ``trainable``, ``size_mb`` and the ``seconds`` that measuring took; of two
    classes also ``delong_p``, the p-value of the difference in AUROC from the best model's. And
    each model's outputs.
    """
    if not models:
        raise UsageError("compare_models: there is no model to compare")
    rows: list[dict[str, Any]] = []
    outputs = {}
    for name, model in models.items():
        began = time.perf_counter()
        metrics, found = measure(model)
        seconds = time.perf_counter() - began
        outputs[name] = found
        # Each model's own loss has terms of its own: they cannot be compared.
        usual = TASKS[found.task].metrics
        named = {name: metrics[name] for name in metrics if split_target(name)[0] in usual}
        metrics = {"loss": common_loss(found), **named}
        size = summarise_model(model)
        about = {key: size[key] for key in ABOUT_MODEL if key in size}
        rows.append({"model": name, **metrics, **about, "seconds": seconds})
    widths = {(found.task, found.logits.shape[1]) for found in outputs.values()}
    if len(widths) > 1:
        told = ", ".join(f"{n}: {o.task} [{o.logits.shape[1]}]" for n, o in outputs.items())
        raise UsageError(f"compare_models: the models are not of one task ({told})")
    table = pd.DataFrame(rows)
    if {found.task for found in outputs.values()} == {"binary"}:
        place = list(table.columns).index(ABOUT_MODEL[0])
        table.insert(place, P_VALUE, _against_the_best(outputs))
    return table, outputs


def _against_the_best(outputs: Mapping[str, EpochOutputs]) -> list[float]:
    """P-values of the AUROC's difference; undefined for the best itself, and with one class."""
    scores = [found.probabilities[:, 1] for found in outputs.values()]
    target = next(iter(outputs.values())).target
    areas = [METRICS["auroc"](found.scores, target) for found in outputs.values()]
    best = int(np.nanargmax(areas)) if not np.isnan(areas).all() else 0
    return [
        UNDEFINED if number == best else delong_test(scores[best], other, target).p_value
        for number, other in enumerate(scores)
    ]


def common_loss(outputs: EpochOutputs) -> float:
    """The loss that any model of a task can be compared by: cross-entropy, or squared errors.

    Of several targets, which may be in unlike units, those relative to each target's variance.
    """
    logits, target = outputs.logits.double(), outputs.target
    if outputs.task == "regression":
        missed = (outputs.predictions.double() - target.double()).square().mean(dim=0)
        if len(missed) > 1:
            missed = missed / target.double().var(dim=0, correction=0)
        return float(missed.mean())
    if outputs.task == "multilabel":
        return float(functional.binary_cross_entropy_with_logits(logits, target.double()))
    return float(functional.cross_entropy(logits, target))


def write_comparison(
    table: pd.DataFrame, outputs: Mapping[str, EpochOutputs], folder: Path, names: list[str]
) -> tuple[list[Path], str | None]:
    """:func:`experiments.comparison.write_comparison_files` of what :func:`compare` found."""
    first = next(iter(outputs.values()))
    metrics = [name for name in table.columns if name not in ("model", P_VALUE, *ABOUT_MODEL)]
    bars = metric_bars(
        list(outputs), {name: [Interval(v) for v in table[name]] for name in metrics}
    )
    cells = [list(table.columns), *([_cell(v) for v in row] for row in table.itertuples(False))]
    return write_comparison_files(
        folder,
        table,
        f"{len(table)} models on the same {len(first.sample_id)} samples.",
        [Section("metrics", "Metrics", bars), Section("table", "All figures", table=cells)],
        outputs,
        names,
    )


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return figure_text(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
