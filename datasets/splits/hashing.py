"""A split that new patients do not change: each group's side follows from its name alone."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np

from datasets.errors import CohortError
from datasets.splits.split import SIDES, check_fractions
from datasets.splits.strata import Strata, class_strata

# So many bits of a hash are a number between 0 and 1, evenly spread.
HASH_BYTES = 8


def hash_split(
    targets: np.ndarray,
    groups: np.ndarray,
    fractions: Sequence[float] = (0.7, 0.15, 0.15),
    seed: int = 0,
    class_names: Sequence[str] | None = None,
) -> np.ndarray:
    """Give each group the side that a hash of its name says.

    Adding samples or groups, or taking some away, moves nobody. The price: sides have about the
    fractions asked for, and about the cohort's classes, but are neither drawn nor stratified.

    Args:
        targets: Class numbers, int [N]; labels (0 or 1), int [N, T]; or values, float [N, T].
        groups: Groups, str [N].
        fractions: Parts of the groups for training, validation and test; each above 0, sum 1.
        seed: Another seed is another hash.
        class_names: Names of the classes or the labels, for error lines.

    Returns:
        "train", "val" or "test" for each sample, str [N].

    Raises:
        CohortError: A side lacks a class or both strata of a label, or has no sample at all; or
            the fractions are wrong.

    Example:
        >>> groups = np.array([f"P{number}" for number in range(40)])
        >>> whole = hash_split(np.zeros((40, 1)), groups)
        >>> part = hash_split(np.zeros((30, 1)), groups[:30])
        >>> bool((whole[:30] == part).all())
        True
    """
    edges = np.cumsum(check_fractions(fractions))[:-1]
    names, group_of = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    places = np.array([_place(name, seed) for name in names.tolist()])
    split: np.ndarray = np.array(SIDES)[np.searchsorted(edges, places, side="right")[group_of]]
    targets = np.asarray(targets)
    if targets.dtype.kind != "f":
        _check_strata(class_strata(targets, class_names), split)
    for side in SIDES:
        if side not in split:
            raise CohortError(f"by hash none of {len(names)} groups is on {side!r}; {_MENDED}")
    return split


_MENDED = (
    "sides by hash are not stratified: add samples, or take another seed, other fractions or a "
    "stratified holdout"
)


def _place(name: str, seed: int) -> float:
    """Where a group stands between 0 and 1; the same on every machine."""
    digest = hashlib.blake2b(f"{seed}:{name}".encode(), digest_size=HASH_BYTES).digest()
    return int.from_bytes(digest, "big") / 2 ** (8 * HASH_BYTES)


def _check_strata(strata: Strata, split: np.ndarray) -> None:
    """Refuse sides without some of each stratum, with the counts of the one that is missed."""
    counts = np.stack([strata.members[split == side].sum(axis=0) for side in SIDES])  # [3, K]
    lacking = np.argwhere(counts == 0)
    if len(lacking):
        side, number = lacking[0]
        spread = ", ".join(f"{name} {n}" for name, n in zip(SIDES, counts[:, number], strict=True))
        raise CohortError(
            f"by hash side {SIDES[side]!r} has no sample of {strata.kind} {strata.names[number]!r} "
            f"({spread}); {_MENDED}"
        )
