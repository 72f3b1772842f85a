"""Stratified splits of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.errors import CohortError

# A draw fails only where few groups hold several scarce classes at once; most succeed at once. Then
# balance is given up: sides come by chance, which finds the rare arrangements that are left.
BALANCED_DRAWS = 100
ANY_DRAWS = 400
# Values to regress are spread over the sides by fifths of their range, where there are enough.
MOST_BINS = 5
MOST_LISTED = 5


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


def stratified_group_split(
    targets: np.ndarray,
    groups: np.ndarray,
    sides: Sequence[str],
    shares: Sequence[float],
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw a stratified assignment of groups to sides.

    Groups come in random order; each goes to the side that still needs its classes most (the dot
    product of the side's unmet class counts with the group's). For groups of one sample this is a
    stratified random split, for a few large groups it holds out other groups for other seeds.
    A side is passed over where the groups still to come could then no longer give every side
    every class.

    Of several labels each counts as two classes, there and not there. Values to regress are split
    by quantiles of the first target: as many as the smallest side can hold, at most ``MOST_BINS``,
    and fewer where the groups are too few for that.

    Args:
        targets: Class numbers, int [N]; labels (0 or 1), int [N, T]; or values, float [N, T].
        groups: Groups, [N].
        sides: Names of the sides, for error lines.
        shares: The part of the samples for each side; each above 0, sum 1.
        seed: Seed of the draw.
        class_names: Names of the classes or the labels, for error lines.

    Returns:
        The number of each sample's side, int64 [N].

    Raises:
        CohortError: The groups cannot give every side every class.

    Example:
        >>> drawn = stratified_group_split(np.array([0, 1] * 10), np.arange(20), ["a", "b"], [0.8,
        0.2]) >>> np.bincount(drawn).tolist()
        [16, 4]
    """
    targets = np.asarray(targets)
    if targets.shape[:1] != np.shape(groups):
        raise ValueError(f"targets {targets.shape} and groups {np.shape(groups)} differ in length")
    if not len(targets):
        raise CohortError("a cohort without samples cannot be split")
    if targets.dtype.kind != "f":
        return _draw_strata(class_strata(targets, class_names), groups, sides, shares, seed)
    return _draw_values(targets.reshape(len(targets), -1)[:, 0], groups, sides, shares, seed)


def _draw_values(
    values: np.ndarray,
    groups: np.ndarray,
    sides: Sequence[str],
    shares: Sequence[float],
    seed: int,
) -> np.ndarray:
    """Split by quantiles of values [N], by fewer where the groups do not allow for so many."""
    count = len(np.unique(groups))
    if count < len(sides):
        raise CohortError(
            f"{count} group{'' if count == 1 else 's'} cannot be on each of {_listed(sides)}; at "
            f"least {len(sides)} are needed"
        )
    fitting = min(MOST_BINS, int(min(shares) * len(values)))
    for bins in range(fitting, 1, -1):
        try:
            return _draw_strata(quantile_strata(values, bins), groups, sides, shares, seed)
        except CohortError:
            continue
    # One bin holds every group, which any draw can give to every side.
    return _draw_strata(quantile_strata(values, 1), groups, sides, shares, seed)


def _draw_strata(
    strata: Strata,
    groups: np.ndarray,
    sides: Sequence[str],
    shares: Sequence[float],
    seed: int,
) -> np.ndarray:
    """Draw until every side holds some of each stratum."""
    unique, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(unique), len(strata.names)))  # [G, K]
    np.add.at(counts, group_of, strata.members)
    _check_possible(counts, strata, sides)

    rng = np.random.default_rng(seed)
    for draw in range(BALANCED_DRAWS + ANY_DRAWS):
        drawn = _draw(counts, np.asarray(shares), rng, balanced=draw < BALANCED_DRAWS)
        if drawn is not None:
            numbers: np.ndarray = drawn[group_of]
            return numbers
    scarce = ", ".join(f"{strata.names[c]!r} in {n}" for c, n in enumerate((counts > 0).sum(0)))
    raise CohortError(
        f"none of {BALANCED_DRAWS + ANY_DRAWS} draws gave {_listed(sides)} every {strata.kind} "
        f"without separating a group; groups that hold each {strata.kind}: {scarce} (of "
        f"{len(unique)} groups)"
    )


def _check_possible(counts: np.ndarray, strata: Strata, sides: Sequence[str]) -> None:
    """Refuse a class that stands in too few groups, counts being [G, K]."""
    for number, holding in enumerate((counts > 0).sum(0)):
        if holding < len(sides):
            raise CohortError(
                f"{strata.kind} {strata.names[number]!r} stands in only {holding} group"
                f"{'' if holding == 1 else 's'} (of {len(counts)}); to be on each of "
                f"{_listed(sides)} without separating a group it needs at least {len(sides)}"
            )


def _draw(
    counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator, balanced: bool
) -> np.ndarray | None:
    """Give each group a side, [G]; None where some side would lack a class.

    Args:
        counts: Samples of each class in each group, [G, C].
        shares: Part of each side, [E].
        rng: Where the order of the groups comes from.
        balanced: Whether a group goes to the side that needs it most, or to any.
    """
    need = shares[:, None] * counts.sum(0)  # [E, C]; falls below 0 for an overfull side
    present = counts > 0  # [G, C]
    lacking = np.ones(need.shape, dtype=bool)  # [E, C]: sides without any sample of the class
    to_come = present.sum(0)  # [C]: groups not yet placed that hold the class
    sides = np.zeros(len(counts), dtype=np.int64)
    for group in rng.permutation(len(counts)):
        score = need @ counts[group] if balanced else rng.random(len(shares))
        if lacking.any():
            to_come = to_come - present[group]
            still = lacking.sum(0) - (lacking & present[group])  # [E, C], were it placed there
            possible = (still <= to_come).all(1)
            if not possible.any():
                return None
            score[~possible] = -np.inf
        side = int(np.argmax(score))
        sides[group] = side
        need[side] -= counts[group]
        lacking[side] &= ~present[group]
    return sides


def _listed(sides: Sequence[str]) -> str:
    """The names of the sides; of many the first and the last."""
    if len(sides) <= MOST_LISTED:
        return ", ".join(sides)
    return f"{sides[0]}, {sides[1]}, ..., {sides[-1]}"
