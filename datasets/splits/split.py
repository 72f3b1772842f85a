"""Train, validation and test splits that share no group: drawn, hashed, written and read."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.cohort import read_table
from datasets.errors import CohortError, nearest
from datasets.files import replaced
from datasets.splits.stratified import Strata, class_strata, stratified_group_split

SUBSETS = ("train", "val", "test")
COLUMNS = ("sample_id", "group", "split")
# Fractions are written in decimals, such as 0.7 + 0.15 + 0.15.
SUM_TOLERANCE = 1e-6
# Bytes of a hash that make a uniform number between 0 and 1.
HASH_BYTES = 8


def make_split(
    targets: np.ndarray,
    groups: np.ndarray,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """A stratified split that separates no group; see :func:`stratified_group_split`.

    Args:
        targets: Class numbers, int [N]; labels (0 or 1), int [N, T]; or values, float [N, T].
        groups: Groups, [N].
        fractions: Parts of the samples for training, validation and test; each above 0, sum 1.
        seed: Of the draw.
        class_names: For error lines.

    Returns:
        "train", "val" or "test" for each sample, str [N].

    Raises:
        CohortError: The groups cannot give every split every class, or the fractions are wrong.

    Example:
        >>> split = make_split(np.array([0, 1] * 10), np.arange(20), (0.6, 0.2, 0.2))
        >>> [int((split == subset).sum()) for subset in SUBSETS]
        [12, 4, 4]
    """
    shares = check_fractions(fractions)
    split: np.ndarray = np.array(SUBSETS)[
        stratified_group_split(targets, groups, SUBSETS, shares, seed, class_names)
    ]
    return split


def check_fractions(fractions: Sequence[float]) -> list[float]:
    """The fractions for training, validation and test as a list.

    Raises:
        CohortError: They are not three numbers above 0 that sum to 1.
    """
    shares = np.asarray(fractions, dtype=np.float64)
    if (
        shares.shape != (len(SUBSETS),)
        or not (shares > 0).all()
        or abs(shares.sum() - 1) > SUM_TOLERANCE
    ):
        raise CohortError(
            f"split fractions {list(fractions)!r}: three numbers above 0 that sum to 1 were "
            f"expected, for {', '.join(SUBSETS)}"
        )
    return shares.tolist()


def write_splits(
    path: Path, sample_ids: Sequence[str], groups: np.ndarray, split: np.ndarray
) -> None:
    """Write a split as a CSV file with the columns sample_id, group and split, atomically."""
    path = Path(path)
    with replaced(path) as part, part.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        writer.writerows(zip(sample_ids, groups, split, strict=True))


def read_splits(
    path: Path,
    sample_ids: Sequence[str],
    groups: np.ndarray,
    targets: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    whole: Sequence[str] = SUBSETS,
) -> np.ndarray:
    """Read a split and check it against the cohort.

    Args:
        path: A file with the columns sample_id, group and split, in any order of rows.
        sample_ids: Names of the cohort's samples, N of them.
        groups: The cohort's groups, str [N].
        targets: As in :func:`make_split`; given, splits have to hold every class, or both values of
            every label.
        class_names: For error lines.
        whole: The splits that have to; a test split of one group cannot.

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
    subsets_of = pd.Series(split).groupby(groups).unique()
    for group, found in subsets_of.items():
        if len(found) > 1:
            both = " and ".join(subset for subset in SUBSETS if subset in found)
            raise CohortError(f"{path}: group {group!r} is in {both}; it must be in one")
    for subset in SUBSETS:
        if subset not in split:
            raise CohortError(f"{path}: no sample is in {subset!r}")
        if subset in whole and targets is not None and np.asarray(targets).dtype.kind != "f":
            _check_strata(class_strata(targets, class_names), split == subset, subset, str(path))
    return split


def _check_rows(table: pd.DataFrame, sample_ids: Sequence[str], where: str) -> None:
    for subset in table["split"].unique():
        if subset not in SUBSETS:
            raise CohortError(f"{where}: unknown split {subset!r}{nearest(subset, SUBSETS)}")
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


def _check_strata(strata: Strata, here: np.ndarray, subset: str, where: str) -> None:
    absent = strata.members.any(axis=0) & ~strata.members[here].any(axis=0)
    if absent.any():
        name = strata.names[int(np.argmax(absent))]
        raise CohortError(f"{where}: split {subset!r} has no sample of {strata.kind} {name!r}")


def hash_split(
    targets: np.ndarray,
    groups: np.ndarray,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Give each group the split that a hash of its name determines.

    Adding or removing samples or groups moves no other. The price: splits have only about the
    requested fractions (of the groups), and are not stratified. Arguments and result are those of
    :func:`make_split`; another seed is another hash.

    Raises:
        CohortError: A split lacks a class or a value of a label, or has no sample; or the fractions
            are wrong.
    """
    edges = np.cumsum(check_fractions(fractions))[:-1]
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    places = np.array([_place(name, seed) for name in names.tolist()])
    split: np.ndarray = np.array(SUBSETS)[np.searchsorted(edges, places, side="right")[group_of]]
    targets = np.asarray(targets)
    if targets.dtype.kind != "f":
        _check_hashed(class_strata(targets, class_names), split)
    for subset in SUBSETS:
        if subset not in split:
            raise CohortError(f"by hash none of {len(names)} groups is in {subset!r}; {_MENDED}")
    return split


_MENDED = (
    "splits by hash are not stratified: add samples, or take another seed, other fractions or a "
    "stratified holdout"
)


def _place(name: str, seed: int) -> float:
    """The group's position between 0 and 1; the same on every machine."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / 2 ** (8 * HASH_BYTES)


def _check_hashed(strata: Strata, split: np.ndarray) -> None:
    counts = np.stack([strata.members[split == subset].sum(axis=0) for subset in SUBSETS])  # [3, K]
    lacking = np.argwhere(counts == 0)
    if len(lacking):
        subset, number = lacking[0]
        spread = ", ".join(
            f"{name} {n}" for name, n in zip(SUBSETS, counts[:, number], strict=True)
        )
        raise CohortError(
            f"by hash split {SUBSETS[subset]!r} has no sample of {strata.kind} "
            f"{strata.names[number]!r} ({spread}); {_MENDED}"
        )
