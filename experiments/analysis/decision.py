"""Thresholds and calibration of a run's probabilities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch

from engine.metrics import EpochOutputs
from engine.statistics import Calibration, OperatingPoint, Reliability, calibrate, operating_points
from experiments.config import ThresholdConfig


def decide(
    outputs: Mapping[str, EpochOutputs], names: Sequence[str], threshold: ThresholdConfig
) -> tuple[dict[str, list[OperatingPoint]], Calibration | None]:
    """Choose thresholds and a temperature on the validation set, and see what they give.

    Of ``val`` and ``test`` outputs. Returns the positive class of two, each class against the rest,
    or each label -> its operating points, the configured rule's first; and the calibration. Nothing
    of a regression, or where weights that diverged have left no finite logits.

    Example:
        >>> logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
        >>> outputs = EpochOutputs(logits, torch.tensor([0, 0, 1, 1]), list("abcd"), {})
        >>> found, _ = decide({"val": outputs, "test": outputs}, ["no", "yes"], ThresholdConfig())
        >>> found["yes"][0].name, round(found["yes"][0].threshold, 2)
        ('youden', 0.32)
    """
    val, test = outputs["val"], outputs["test"]
    whole = all(bool(torch.isfinite(side.logits).all()) for side in (val, test))
    if test.task == "regression" or not whole:
        return {}, None
    pairs = zip(_ranked(val, names), _ranked(test, names), strict=True)
    found = {
        name: operating_points(
            val_scores, val_positive, test_scores, test_positive, threshold.rule, threshold.demand
        )
        for (name, val_scores, val_positive), (_, test_scores, test_positive) in pairs
    }
    return found, calibrate(val, test)


def as_plain(
    decisions: Mapping[str, Sequence[OperatingPoint]], calibration: Calibration | None
) -> dict[str, Any]:
    """Thresholds and calibration in plain types, as ``metrics.json`` has them.

    ``thresholds``: name -> rows with ``rule``, ``demand``, ``threshold`` and the figures of ``val``
    and ``test``; ``calibration``: ``temperature`` and the figures of the test set ``before`` and
    ``after``, or None.
    """
    thresholds = {name: [asdict(point) for point in points] for name, points in decisions.items()}
    if calibration is None:
        return {"thresholds": thresholds, "calibration": None}
    return {
        "thresholds": thresholds,
        "calibration": {
            "temperature": calibration.temperature,
            "before": _plain_reliability(calibration.before),
            "after": _plain_reliability(calibration.after),
        },
    }


def _plain_reliability(found: Reliability) -> dict[str, Any]:
    return {
        name: value.tolist() if isinstance(value, np.ndarray) else value
        for name, value in asdict(found).items()
    }


def _ranked(
    outputs: EpochOutputs, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """The names of all that is decided on, its scores [N] and who is positive, bool [N]."""
    scores, target = outputs.probabilities.numpy(), outputs.target.numpy()
    for number, name in enumerate(names):
        if outputs.task == "binary" and number == 0:
            continue  # of two classes only the second, the positive one
        labels = target[:, number] > 0 if outputs.task == "multilabel" else target == number
        yield name, scores[:, number], labels
