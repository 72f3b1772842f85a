"""Prediction sets of classes and intervals of values, with a chosen coverage."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.specs import require_range
from engine.metrics import CLASSES

if TYPE_CHECKING:
    from engine.metrics import EpochOutputs

# Between the names of a set's classes.
BETWEEN = "|"
# Rounding of the coverage must not decide whether a score at the limit is inside.
ROUNDING = 1e-9
SET, LOWER, UPPER = "prediction_set", "lower_", "upper_"
WITHOUT_CREPES = "prediction sets need crepes: pip install 'scanfire[conformal]'"


def fewest_groups(coverage: float) -> int:
    """How many calibration scores a finite limit needs.

    Example:
        >>> fewest_groups(0.9), fewest_groups(0.95)
        (9, 19)
    """
    return math.ceil(round(1 / (1 - coverage), 6)) - 1


@dataclass(frozen=True)
class Limit:
    """The largest score inside a set, of what is called ``name``; infinite with too few groups."""

    name: str
    value: float
    groups: int


@dataclass(frozen=True)
class ConformalSets:
    """Sets of classes, or intervals of values, that hold the truth with a share of ``coverage``.

    A class is in the set of a sample where 1 minus its probability is at most the limit of this
    class; of a label both states, absent and present, have a limit; the interval of a value reaches
    as far as its limit to both sides. ``limits`` are C of classes, 2T of labels (absent before
    present), T of values.
    """

    coverage: float
    task: str
    names: Sequence[str]
    limits: Sequence[Limit]

    @property
    def notes(self) -> list[Message]:
        """A line for each limit that the calibration samples are too few for."""
        told = (
            "prediction sets: '{}' is in every set: it is calibrated with {} groups, where "
            "coverage {} needs {}"
        )
        asked = f"{self.coverage:g}", fewest_groups(self.coverage)
        return [
            Message(told, limit.name, limit.groups, *asked)
            for limit in self.limits
            if math.isinf(limit.value)
        ]

    def inside(self, scores: np.ndarray) -> np.ndarray:
        """Which classes are in the sets: bool [N, C]; of labels absent and present [N, T, 2]."""
        limits = np.array([limit.value for limit in self.limits])
        if self.task == "multilabel":
            return np.stack([scores, 1 - scores], axis=2) <= limits.reshape(-1, 2)
        return 1 - scores <= limits

    def covered(self, scores: np.ndarray, target: np.ndarray) -> np.ndarray:
        """Whether the truth is in the set: bool [N] of classes, [N, T] of labels and values."""
        if self.task == "regression":
            reach = np.array([limit.value for limit in self.limits])
            return np.abs(target - scores) <= reach
        inside = self.inside(scores)
        numbers = target.astype(np.int64)
        return np.take_along_axis(inside, numbers[..., None], axis=-1)[..., 0]

    def columns(self, scores: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of ``predictions.csv`` for probabilities [N, C] or [N, T], or values [N, T].

        ``prediction_set`` has the names of classes, with ``|`` between them; it is empty where no
        class is like the calibration samples of that class. Labels have a
        ``prediction_set_<label>`` each (``0``, ``1``, ``0|1`` or empty), values ``lower_<column>``
        and ``upper_<column>``.
        """
        if self.task == "regression":
            found = {}
            for number, (name, limit) in enumerate(zip(self.names, self.limits, strict=True)):
                found[LOWER + name] = scores[:, number] - limit.value
                found[UPPER + name] = scores[:, number] + limit.value
            return found
        inside = self.inside(scores)
        if self.task == "multilabel":
            states = ("0", "1")
            return {
                f"{SET}_{name}": _joined(inside[:, number], states)
                for number, name in enumerate(self.names)
            }
        return {SET: _joined(inside, self.names)}


def _joined(inside: np.ndarray, names: Sequence[str]) -> np.ndarray:
    texts = [BETWEEN.join(n for n, yes in zip(names, row, strict=True) if yes) for row in inside]
    return np.array(texts, dtype=object)


def calibrate_sets(
    outputs: EpochOutputs,
    groups: Sequence[str],
    names: Sequence[str],
    coverage: float = 0.9,
    seed: int = 0,
) -> ConformalSets:
    """Limits by class, from samples that the model was not trained on; ``groups`` is one a sample.

    Split conformal prediction, within classes (Vovk 2012, "Conditional Validity of Inductive
    Conformal Predictors"), by crepes. Samples of one patient or plate are not exchangeable with
    those of others. Each group so gives one score for each class that it has, of a sample drawn at
    random (Dunn, Wasserman and Ramdas 2023, "Distribution-Free Prediction Sets for Two-Layer
    Hierarchical Models"): then the coverage holds for a sample of a new group.

    A class of too few groups (``fewest_groups``) is in every set. UsageError where that is so of
    each class, for a name with ``|``, or without crepes.
    """
    coverage = require_range("coverage", coverage, 0, 1, open_low=True)
    if BETWEEN in "".join(names) and outputs.task in CLASSES:
        name = next(name for name in names if BETWEEN in name)
        raise UsageError(f"prediction sets are written with '{BETWEEN}', which '{name}' has in it")
    rng, of_samples = np.random.default_rng(seed), np.asarray(groups, dtype=str)
    limits = [
        _limit(name, scores, of_samples[rows], coverage, rng)
        for name, rows, scores in _scores(outputs, names)
    ]
    if all(math.isinf(limit.value) for limit in limits):
        counts = ", ".join(f"{limit.groups} of {limit.name}" for limit in limits)
        needed = fewest_groups(coverage)
        raise UsageError(
            f"coverage {coverage:g} needs {needed} groups of a class to calibrate with, there are "
            f"{counts}: give a lower coverage, or a cross-validation, which predicts every sample"
        )
    return ConformalSets(coverage, outputs.task, list(names), limits)


def _scores(
    outputs: EpochOutputs, names: Sequence[str]
) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """What has a limit, the rows of its samples [n], and how badly the truth fits each of them."""
    scores, target = outputs.scores.numpy(), outputs.target.numpy()
    for number, name in enumerate(names):
        own = scores[:, number]
        if outputs.task == "regression":
            rows = np.arange(len(own))
            yield name, rows, np.abs(target[:, number] - own)
        elif outputs.task == "multilabel":
            for state, told in enumerate(("without {}", "with {}")):
                rows = np.flatnonzero((target[:, number] > 0) == bool(state))
                yield Message(told, name), rows, (1 - own if state else own)[rows]
        else:
            rows = np.flatnonzero(target == number)
            yield name, rows, 1 - own[rows]


def _limit(
    name: str, scores: np.ndarray, groups: np.ndarray, coverage: float, rng: np.random.Generator
) -> Limit:
    order = rng.permutation(len(scores))
    found, first = np.unique(groups[order], return_index=True)
    if len(found) < fewest_groups(coverage):
        return Limit(name, math.inf, len(found))
    try:
        from crepes import ConformalRegressor
    except ImportError as error:
        raise UsageError(WITHOUT_CREPES) from error
    # A class's limit is how far an interval around a score of 0 reaches.
    calibrated = ConformalRegressor().fit(scores[order][first])
    reach = calibrated.predict_int(np.zeros(1), confidence=coverage - ROUNDING)
    return Limit(name, float(reach[0, 1]), len(found))
