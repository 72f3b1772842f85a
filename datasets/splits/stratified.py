"""Stratified splits of groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from datasets.errors import CohortError

# A draw fails only where few groups hold several rare classes at once. Then balance is given up:
# groups are placed at random, which finds the rare arrangements that are left.
BALANCED_DRAWS = 100
ANY_DRAWS = 400
# Values to regress are spread over the splits by fifths of their range, where there are enough.
MOST_BINS = 5
MOST_LISTED = 5


@dataclass(frozen=True, eq=False)
class Strata:
    """Sets of samples, of each of which every split needs some.

    Attributes:
        members: Which samples are in which set, int [N, K].
        kind: ``class``, ``label`` or ``range``.
        names: Of the K sets.
    """

    members: np.ndarray
    kind: str
    names: list[str]


def class_strata(targets: np.ndarray, names: Sequence[str] | None = None) -> Strata:
    """A stratum for each class number, int [N], or for both values of each label, int [N, T]."""
    targets = np.asarray(targets)
    if targets.ndim == 2:
        named = names or [str(number) for number in range(targets.shape[1])]
        both = [f"{name}={value}" for value in (1, 0) for name in named]
        return Strata(np.concatenate([targets, 1 - targets], axis=1), "label", both)
    named = names or [str(number) for number in range(int(targets.max()) + 1)]
    return Strata(np.eye(len(named), dtype=np.int64)[targets], "class", list(named))


def quantile_strata(values: np.ndarray, bins: int) -> Strata:
    """Strata of about equal size along values [N]; fewer than ``bins`` where many are equal."""
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
    names: Sequence[str],
    shares: Sequence[float],
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw a stratified assignment of groups to splits of these names and shares.

    Groups come in random order; each goes to the split that still needs its classes most (the dot
    product of the split's unmet class counts with the group's). For groups of one sample this is a
    stratified random split. A split is passed over where the remaining groups could then no longer
    give every split every class.

    Each of several labels counts as two classes. Regression targets are split by quantiles of the
    first one: as many as the smallest split can hold, at most ``MOST_BINS``, and fewer where the
    groups do not suffice. The other arguments are those of :func:`datasets.splits.make_split`.

    Returns:
        The number of each sample's split, int64 [N].

    Raises:
        CohortError: The groups cannot give every split every class.

    Example:
        >>> drawn = stratified_group_split([0, 1] * 10, np.arange(20), ["a", "b"], [0.8, 0.2])
        >>> np.bincount(drawn).tolist()
        [16, 4]
    """
    targets = np.asarray(targets)
    if targets.shape[:1] != np.shape(groups):
        raise ValueError(f"targets {targets.shape} and groups {np.shape(groups)} differ in length")
    if not len(targets):
        raise CohortError("a cohort without samples cannot be split")
    if targets.dtype.kind != "f":
        return _draw_strata(class_strata(targets, class_names), groups, names, shares, seed)
    return _draw_values(targets.reshape(len(targets), -1)[:, 0], groups, names, shares, seed)


def _draw_values(
    values: np.ndarray, groups: np.ndarray, names: Sequence[str], shares: Sequence[float], seed: int
) -> np.ndarray:
    """Split by quantiles of values [N], fewer where the groups do not allow for more."""
    count = len(np.unique(groups))
    if count < len(names):
        raise CohortError(
            f"{count} group{'' if count == 1 else 's'} cannot be in each of {_listed(names)}; at "
            f"least {len(names)} are needed"
        )
    fitting = min(MOST_BINS, int(min(shares) * len(values)))
    for bins in range(fitting, 1, -1):
        try:
            return _draw_strata(quantile_strata(values, bins), groups, names, shares, seed)
        except CohortError:
            continue
    # One bin holds every group, which any draw can give to every split.
    return _draw_strata(quantile_strata(values, 1), groups, names, shares, seed)


def _draw_strata(
    strata: Strata, groups: np.ndarray, names: Sequence[str], shares: Sequence[float], seed: int
) -> np.ndarray:
    unique, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(unique), len(strata.names)))  # [G, K]
    np.add.at(counts, group_of, strata.members)
    _check_possible(counts, strata, names)

    rng = np.random.default_rng(seed)
    for draw in range(BALANCED_DRAWS + ANY_DRAWS):
        drawn = _draw(counts, np.asarray(shares), rng, balanced=draw < BALANCED_DRAWS)
        if drawn is not None:
            numbers: np.ndarray = drawn[group_of]
            return numbers
    scarce = ", ".join(f"{strata.names[c]!r} in {n}" for c, n in enumerate((counts > 0).sum(0)))
    raise CohortError(
        f"none of {BALANCED_DRAWS + ANY_DRAWS} draws gave {_listed(names)} every {strata.kind} "
        f"without separating a group; groups that hold each {strata.kind}: {scarce} (of "
        f"{len(unique)} groups)"
    )


def _check_possible(counts: np.ndarray, strata: Strata, names: Sequence[str]) -> None:
    """Refuse a class that is in too few groups, counts being [G, K]."""
    for number, holding in enumerate((counts > 0).sum(0)):
        if holding < len(names):
            raise CohortError(
                f"{strata.kind} {strata.names[number]!r} stands in only {holding} group"
                f"{'' if holding == 1 else 's'} (of {len(counts)}); to be in each of "
                f"{_listed(names)} without separating a group it needs at least {len(names)}"
            )


def _draw(
    counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator, balanced: bool
) -> np.ndarray | None:
    """The split of each group, [G]; None where some split would lack a class.

    Args:
        counts: Samples of each class in each group, [G, C].
        shares: Part of each split, [E].
        rng: For the order of the groups.
        balanced: Whether a group goes to the split that needs it most, or to any.
    """
    need = shares[:, None] * counts.sum(0)  # [E, C]; falls below 0 for an overfull split
    present = counts > 0  # [G, C]
    lacking = np.ones(need.shape, dtype=bool)  # [E, C]: splits without any sample of the class
    to_come = present.sum(0)  # [C]: groups not yet placed that hold the class
    subsets = np.zeros(len(counts), dtype=np.int64)
    for group in rng.permutation(len(counts)):
        score = need @ counts[group] if balanced else rng.random(len(shares))
        if lacking.any():
            to_come = to_come - present[group]
            still = lacking.sum(0) - (lacking & present[group])  # [E, C], were it placed there
            possible = (still <= to_come).all(1)
            if not possible.any():
                return None
            score[~possible] = -np.inf
        subset = int(np.argmax(score))
        subsets[group] = subset
        need[subset] -= counts[group]
        lacking[subset] &= ~present[group]
    return subsets


def _listed(names: Sequence[str]) -> str:
    if len(names) <= MOST_LISTED:
        return ", ".join(names)
    return f"{names[0]}, {names[1]}, ..., {names[-1]}"
