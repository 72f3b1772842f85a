"""Strata that each subset of a split has to hold: classes, label values, or ranges of a target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class Strata:
    """Sets of samples, of each of which every side needs some.

    Attributes:
        members: Which samples are in which set, int [N, K].
        kind: What a set is called: ``class``, ``label``, ``range``.
        names: K names of the sets.
    """

    members: np.ndarray
    kind: str
    names: list[str]


def class_strata(targets: np.ndarray, names: Sequence[str] | None = None) -> Strata:
    """A set for each class, or for each label one where it is there and one where it is not.

    Args:
        targets: Class numbers, int [N], or labels (0 or 1), int [N, T].
        names: Of the classes or the labels; None takes their numbers.

    Example:
        >>> class_strata(np.array([[1, 0], [1, 1]]), ["sepsis", "anaemia"]).names
        ['sepsis=1', 'anaemia=1', 'sepsis=0', 'anaemia=0']
    """
    targets = np.asarray(targets)
    if targets.ndim == 2:
        named = names or [str(number) for number in range(targets.shape[1])]
        both = [f"{name}={value}" for value in (1, 0) for name in named]
        return Strata(np.concatenate([targets, 1 - targets], axis=1), "label", both)
    named = names or [str(number) for number in range(int(targets.max()) + 1)]
    return Strata(np.eye(len(named), dtype=np.int64)[targets], "class", list(named))


def quantile_strata(values: np.ndarray, bins: int) -> Strata:
    """A set for each part of a range that holds about as many samples as any other.

    Args:
        values: Float [N].
        bins: How many parts; fewer come out where many values are equal.

    Example:
        >>> quantile_strata(np.array([1.0, 2.0, 3.0, 9.0]), 2).members.tolist()
        [[1, 0], [1, 0], [0, 1], [0, 1]]
    """
    edges = np.quantile(values, np.arange(1, bins) / bins)
    numbers = np.unique(np.searchsorted(edges, values), return_inverse=True)[1]
    members = np.eye(int(numbers.max()) + 1, dtype=np.int64)[numbers]
    names = [
        f"{values[column > 0].min():g} to {values[column > 0].max():g}" for column in members.T
    ]
    return Strata(members, "range", names)
