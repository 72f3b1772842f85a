"""Split a cohort into training, validation and test parts that share no group."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.errors import CohortError, nearest
from datasets.strata import Strata, class_strata, quantile_strata
from datasets.table import read_table

SIDES = ("train", "val", "test")
COLUMNS = ("sample_id", "group", "split")

# A draw fails only where few groups hold several scarce classes at once; most succeed at once. Then
# balance is given up: sides come by chance, which finds the rare arrangements that are left.
BALANCED_DRAWS = 100
ANY_DRAWS = 400
# Fractions are written in decimals, such as 0.7 + 0.15 + 0.15.
SUM_TOLERANCE = 1e-6
# Values to regress are spread over the sides by fifths of their range, where there are enough.
MOST_BINS = 5


def make_split(
    targets: np.ndarray,
    groups: np.ndarray,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw a stratified split that keeps every group on one side.

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
        fractions: Parts of the samples for training, validation and test; each above 0, sum 1.
        seed: Seed of the draw.
        class_names: Names of the classes or the labels, for error lines.

    Returns:
        "train", "val" or "test" for each sample, str [N].

    Raises:
        CohortError: The groups cannot give every side every class, or the fractions are wrong.

    Example:
        >>> split = make_split(np.array([0, 1] * 10), np.arange(20), (0.6, 0.2, 0.2))
        >>> [int((split == side).sum()) for side in SIDES]
        [12, 4, 4]
    """
    shares = _checked_fractions(fractions)
    targets = np.asarray(targets)
    if targets.shape[:1] != np.shape(groups):
        raise ValueError(f"targets {targets.shape} and groups {np.shape(groups)} differ in length")
    if not len(targets):
        raise CohortError("a cohort without samples cannot be split")
    if targets.dtype.kind != "f":
        return _split(class_strata(targets, class_names), groups, shares, seed)
    return _split_values(targets.reshape(len(targets), -1)[:, 0], groups, shares, seed)


def _split_values(
    values: np.ndarray, groups: np.ndarray, shares: np.ndarray, seed: int
) -> np.ndarray:
    """Split by quantiles of values [N], by fewer where the groups do not allow for so many."""
    count = len(np.unique(groups))
    if count < len(SIDES):
        raise CohortError(
            f"{count} group{'' if count == 1 else 's'} cannot be on each of {', '.join(SIDES)}; at "
            f"least {len(SIDES)} are needed"
        )
    fitting = min(MOST_BINS, int(shares.min() * len(values)))
    for bins in range(fitting, 1, -1):
        try:
            return _split(quantile_strata(values, bins), groups, shares, seed)
        except CohortError:
            continue
    # One bin holds every group, which any draw can give to every side.
    return _split(quantile_strata(values, 1), groups, shares, seed)


def _split(strata: Strata, groups: np.ndarray, shares: np.ndarray, seed: int) -> np.ndarray:
    """Draw until every side holds some of each stratum."""
    unique, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(unique), len(strata.names)))  # [G, K]
    np.add.at(counts, group_of, strata.members)
    _check_possible(counts, strata)

    rng = np.random.default_rng(seed)
    for draw in range(BALANCED_DRAWS + ANY_DRAWS):
        sides = _draw(counts, shares, rng, balanced=draw < BALANCED_DRAWS)
        if sides is not None:
            split: np.ndarray = np.array(SIDES)[sides[group_of]]
            return split
    scarce = ", ".join(f"{strata.names[c]!r} in {n}" for c, n in enumerate((counts > 0).sum(0)))
    raise CohortError(
        f"none of {BALANCED_DRAWS + ANY_DRAWS} draws gave {', '.join(SIDES)} every {strata.kind} "
        f"without separating a group; groups that hold each {strata.kind}: {scarce} (of "
        f"{len(unique)} groups)"
    )


def _checked_fractions(fractions: Sequence[float]) -> np.ndarray:
    """Check the fractions and return them, [3]."""
    shares = np.asarray(fractions, dtype=np.float64)
    if (
        shares.shape != (len(SIDES),)
        or not (shares > 0).all()
        or abs(shares.sum() - 1) > SUM_TOLERANCE
    ):
        raise CohortError(
            f"split fractions {list(fractions)!r}: three numbers above 0 that sum to 1 were "
            f"expected, for {', '.join(SIDES)}"
        )
    return shares


def _check_possible(counts: np.ndarray, strata: Strata) -> None:
    """Refuse a class that stands in too few groups, counts being [G, K]."""
    for number, holding in enumerate((counts > 0).sum(0)):
        if holding < len(SIDES):
            raise CohortError(
                f"{strata.kind} {strata.names[number]!r} stands in only {holding} group"
                f"{'' if holding == 1 else 's'} (of {len(counts)}); to be on each of "
                f"{', '.join(SIDES)} without separating a group it needs at least {len(SIDES)}"
            )


def _draw(
    counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator, balanced: bool
) -> np.ndarray | None:
    """Give each group a side, [G]; None where some side would lack a class.

    Args:
        counts: Samples of each class in each group, [G, C].
        shares: Part of each side, [3].
        rng: Where the order of the groups comes from.
        balanced: Whether a group goes to the side that needs it most, or to any.
    """
    need = shares[:, None] * counts.sum(0)  # [3, C]; falls below 0 for an overfull side
    present = counts > 0  # [G, C]
    lacking = np.ones(need.shape, dtype=bool)  # [3, C]: sides without any sample of the class
    to_come = present.sum(0)  # [C]: groups not yet placed that hold the class
    sides = np.zeros(len(counts), dtype=np.int64)
    for group in rng.permutation(len(counts)):
        score = need @ counts[group] if balanced else rng.random(len(SIDES))
        if lacking.any():
            to_come = to_come - present[group]
            still = lacking.sum(0) - (lacking & present[group])  # [3, C], were it placed there
            possible = (still <= to_come).all(1)
            if not possible.any():
                return None
            score[~possible] = -np.inf
        side = int(np.argmax(score))
        sides[group] = side
        need[side] -= counts[group]
        lacking[side] &= ~present[group]
    return sides


def write_splits(
    path: Path, sample_ids: Sequence[str], groups: np.ndarray, split: np.ndarray
) -> None:
    """Write a split as a CSV file with the columns sample_id, group and split.

    Args:
        path: The file, replaced as a whole if it is there.
        sample_ids: Names of the samples, N of them.
        groups: Groups, str [N].
        split: Sides, str [N].
    """
    path = Path(path)
    aside = path.with_name(f".{path.name}.part")
    try:
        with aside.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(COLUMNS)
            writer.writerows(zip(sample_ids, groups, split, strict=True))
            file.flush()
            os.fsync(file.fileno())
        aside.replace(path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise


def read_splits(
    path: Path,
    sample_ids: Sequence[str],
    groups: np.ndarray,
    targets: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Read a split and check it against the cohort.

    Args:
        path: A file with the columns sample_id, group and split, in any order of rows.
        sample_ids: Names of the cohort's samples, N of them.
        groups: The cohort's groups, str [N].
        targets: As in :func:`make_split`; given, every side has to hold every class, or both
            kinds of every label.
        class_names: Names of the classes or the labels, for error lines.

    Returns:
        "train", "val" or "test" for each sample of the cohort, in the cohort's order, str [N].

    Raises:
        CohortError: The file does not fit the cohort, or separates a group.
    """
    path = Path(path)
    table = read_table(path, COLUMNS)
    _check_rows(table, sample_ids, str(path))
    table = table.set_index("sample_id").loc[list(sample_ids)]
    split = table["split"].to_numpy(dtype=str)
    written = table["group"].to_numpy(dtype=str)
    groups = np.asarray(groups, dtype=str)
    if (written != groups).any():
        at = int(np.argmax(written != groups))
        raise CohortError(
            f"{path}: sample {sample_ids[at]!r} is in group {str(written[at])!r}, but in the "
            f"cohort its group is {str(groups[at])!r}"
        )
    sides_of = pd.Series(split).groupby(groups).unique()
    for group, sides in sides_of.items():
        if len(sides) > 1:
            on = " and ".join(side for side in SIDES if side in sides)
            raise CohortError(f"{path}: group {group!r} is on {on}; a group has one side only")
    for side in SIDES:
        if side not in split:
            raise CohortError(f"{path}: no sample is on {side!r}")
        if targets is not None and np.asarray(targets).dtype.kind != "f":
            _check_strata(class_strata(targets, class_names), split == side, side, str(path))
    return split


def _check_rows(table: pd.DataFrame, sample_ids: Sequence[str], where: str) -> None:
    """Check that a split names each of the cohort's samples once and only known sides."""
    for side in table["split"].unique():
        if side not in SIDES:
            raise CohortError(f"{where}: unknown side {side!r}{nearest(side, SIDES)}")
    double = table["sample_id"][table["sample_id"].duplicated()]
    if len(double):
        raise CohortError(f"{where}: sample {double.iloc[0]!r} stands there more than once")
    known = set(sample_ids)
    unknown = [name for name in table["sample_id"] if name not in known]
    if unknown:
        raise CohortError(
            f"{where}: the cohort has no sample {unknown[0]!r} ({len(unknown)} such rows)"
            f"{nearest(unknown[0], sample_ids)}"
        )
    listed = set(table["sample_id"])
    missing = [name for name in sample_ids if name not in listed]
    if missing:
        raise CohortError(
            f"{where}: no row for sample {missing[0]!r} ({len(missing)} of {len(sample_ids)} "
            "samples are missing)"
        )


def _check_strata(strata: Strata, here: np.ndarray, side: str, where: str) -> None:
    """Check that every class of the cohort has a sample on a side."""
    absent = strata.members.any(axis=0) & ~strata.members[here].any(axis=0)
    if absent.any():
        name = strata.names[int(np.argmax(absent))]
        raise CohortError(f"{where}: side {side!r} has no sample of {strata.kind} {name!r}")
