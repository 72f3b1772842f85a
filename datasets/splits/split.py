"""Train, validation and test splits that share no group: drawn, hashed, written and read."""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from datasets.cohort import read_table
from datasets.errors import CohortError, nearest
from datasets.files import replaced

SUBSETS = ("train", "val", "test")
COLUMNS = ("sample_id", "group", "split")
# Fractions are written in decimals, such as 0.7 + 0.15 + 0.15.
SUM_TOLERANCE = 1e-6
# Bytes of a hash that make a uniform number between 0 and 1.
HASH_BYTES = 8
# A draw fails only where few groups hold several rare classes at once. Then balance is given up:
# groups are placed at random, which finds the rare arrangements that are left.
BALANCED_DRAWS = 100
ANY_DRAWS = 400
# Values to regress are spread over the splits by fifths of their range, where there are enough.
MOST_BINS = 5
MOST_LISTED = 5
_MENDED = (
    "splits by hash are not stratified: add samples, or take another seed, other fractions or a "
    "stratified holdout"
)


def make_split(
    targets: np.ndarray,
    groups: np.ndarray,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """A stratified split, "train", "val" or "test" [N]; see :func:`stratified_group_split`.

    ``targets`` are class numbers, int [N]; labels (0 or 1), int [N, T]; or values, float [N, T];
    ``groups`` are [N]; ``fractions``, each above 0, sum 1, are for training, validation and test.
    CohortError, which names classes, where the groups cannot give every split every class.
    """
    shares = check_fractions(fractions)
    drawn = stratified_group_split(targets, groups, SUBSETS, shares, seed, class_names)
    return np.array(SUBSETS)[drawn]


def check_fractions(fractions: Sequence[float]) -> list[float]:
    """The three fractions as a list; CohortError where they are not above 0 with the sum 1."""
    shares = np.asarray(fractions, dtype=np.float64)
    is_complete = shares.shape == (len(SUBSETS),) and abs(shares.sum() - 1) <= SUM_TOLERANCE
    if not is_complete or not (shares > 0).all():
        raise CohortError(
            f"split fractions {list(fractions)!r}: three numbers above 0 that sum to 1 were "
            f"expected, for {', '.join(SUBSETS)}"
        )
    return shares.tolist()


def write_splits(
    path: Path, sample_ids: Sequence[str], groups: np.ndarray, split: np.ndarray
) -> None:
    """Write a split as a CSV file with the columns sample_id, group and split, atomically."""
    table = pd.DataFrame(dict(zip(COLUMNS, (sample_ids, groups, split), strict=True)))
    with replaced(Path(path)) as part:
        table.to_csv(part, index=False, lineterminator="\r\n")


def read_splits(
    path: Path,
    sample_ids: Sequence[str],
    groups: np.ndarray,
    targets: np.ndarray | None = None,
    class_names: Sequence[str] | None = None,
    whole: Sequence[str] = SUBSETS,
) -> np.ndarray:
    """Read a split, str [N] in the cohort's order, and check it against the cohort.

    The file has the columns sample_id, group and split, in any order of rows. Given ``targets``, as
    in :func:`make_split`, the splits ``whole`` have to hold every class, or both values of every
    label; a test split of one group cannot. CohortError where the file does not fit the cohort.
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
            strata = class_strata(targets, class_names)
            absent = strata.members.any(axis=0) & ~strata.members[split == subset].any(axis=0)
            if absent.any():
                what = f"{strata.kind} {strata.names[int(np.argmax(absent))]!r}"
                raise CohortError(f"{path}: split {subset!r} has no sample of {what}")
    return split


def _check_rows(table: pd.DataFrame, sample_ids: Sequence[str], where: str) -> None:
    for subset in table["split"].unique():
        if subset not in SUBSETS:
            raise CohortError(f"{where}: unknown split {subset!r}{nearest(subset, SUBSETS)}")
    listed = table["sample_id"]
    if listed.duplicated().any():
        double = listed[listed.duplicated()].iloc[0]
        raise CohortError(f"{where}: sample {double!r} stands there more than once")
    unknown = listed[~listed.isin(sample_ids)].tolist()
    if unknown:
        raise CohortError(
            f"{where}: the cohort has no sample {unknown[0]!r} ({len(unknown)} such rows)"
            f"{nearest(unknown[0], sample_ids)}"
        )
    missing = pd.Index(sample_ids).difference(listed.tolist(), sort=False)
    if len(missing):
        raise CohortError(
            f"{where}: no row for sample {missing[0]!r} ({len(missing)} of {len(sample_ids)} "
            "samples are missing)"
        )


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
    :func:`make_split`; another seed is another hash. CohortError also where a split has no sample.
    """
    edges = np.cumsum(check_fractions(fractions))[:-1]
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    places = np.array([_place(name, seed) for name in names.tolist()])
    split: np.ndarray = np.array(SUBSETS)[np.searchsorted(edges, places, side="right")[group_of]]
    if np.asarray(targets).dtype.kind != "f":
        strata = class_strata(targets, class_names)
        counts = np.stack([strata.members[split == subset].sum(axis=0) for subset in SUBSETS])
        for number, of_subsets in enumerate(counts.T):
            if not of_subsets.all():
                told = zip(SUBSETS, of_subsets, strict=True)
                raise CohortError(
                    f"by hash split {SUBSETS[of_subsets.argmin()]!r} has no sample of "
                    f"{strata.kind} {strata.names[number]!r} "
                    f"({', '.join(f'{name} {count}' for name, count in told)}); {_MENDED}"
                )
    for subset in SUBSETS:
        if subset not in split:
            raise CohortError(f"by hash none of {len(names)} groups is in {subset!r}; {_MENDED}")
    return split


def _place(name: str, seed: int) -> float:
    """The group's position between 0 and 1; the same on every machine."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / 2 ** (8 * HASH_BYTES)


@dataclass(frozen=True, eq=False)
class Strata:
    """Sets of samples, of each of which every split needs some; members are int [N, K]."""

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
    inside = [values[column > 0] for column in members.T]
    return Strata(members, "range", [f"{part.min():g} to {part.max():g}" for part in inside])


def stratified_group_split(
    targets: np.ndarray,
    groups: np.ndarray,
    names: Sequence[str],
    shares: Sequence[float],
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Draw the number of each sample's split, int64 [N], of splits of these names and shares.

    Groups come in random order; each goes to the split that still needs its classes most (the dot
    product of the split's unmet class counts with the group's). For groups of one sample this is a
    stratified random split. A split is passed over where the remaining groups could then no longer
    give every split every class.

    Each of several labels counts as two classes. Regression targets are split by quantiles of the
    first one: as many as the smallest split can hold, at most ``MOST_BINS``, and fewer where the
    groups do not suffice. The other arguments and errors are those of :func:`make_split`.
    """
    targets = np.asarray(targets)
    if targets.shape[:1] != np.shape(groups):
        raise ValueError(f"targets {targets.shape} and groups {np.shape(groups)} differ in length")
    if not len(targets):
        raise CohortError("a cohort without samples cannot be split")
    draw = partial(_draw_strata, groups=groups, names=names, shares=shares, seed=seed)
    if targets.dtype.kind != "f":
        return draw(class_strata(targets, class_names))
    count = len(np.unique(groups))
    if count < len(names):
        raise CohortError(
            f"{count} group{'' if count == 1 else 's'} cannot be in each of {_listed(names)}; at "
            f"least {len(names)} are needed"
        )
    values = targets.reshape(len(targets), -1)[:, 0]
    for bins in range(min(MOST_BINS, int(min(shares) * len(values))), 1, -1):
        with suppress(CohortError):  # the groups do not allow for so many
            return draw(quantile_strata(values, bins))
    # One bin holds every group, which any draw can give to every split.
    return draw(quantile_strata(values, 1))


def _draw_strata(
    strata: Strata, groups: np.ndarray, names: Sequence[str], shares: Sequence[float], seed: int
) -> np.ndarray:
    unique, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(unique), len(strata.names)))  # [G, K]
    np.add.at(counts, group_of, strata.members)
    for number, holding in enumerate((counts > 0).sum(0)):
        if holding < len(names):
            raise CohortError(
                f"{strata.kind} {strata.names[number]!r} stands in only {holding} group"
                f"{'' if holding == 1 else 's'} (of {len(counts)}); to be in each of "
                f"{_listed(names)} without separating a group it needs at least {len(names)}"
            )
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


def _draw(
    counts: np.ndarray, shares: np.ndarray, rng: np.random.Generator, balanced: bool
) -> np.ndarray | None:
    """The split of each group, [G]; None where some split would lack a class.

    ``counts`` are samples of each class in each group, [G, C], ``shares`` the parts of the splits,
    [E]. ``balanced`` gives a group to the split that needs it most, otherwise to any.
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
