"""Scans that stand twice: on two sides of a split, in two groups, or within one."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, Level, counted
from datasets.audit.near_duplicates import SAME, find_lookalikes

# Where the scans of a set stand, in the order in which they are asked, and how grave that is of
# identical and of near-identical scans; within a group only identical ones are looked for.
PLACES: tuple[tuple[str, Level, Level | None, str], ...] = (
    ("sides", "refuse", "warn", "on another side of the split: the test is of what was learned"),
    ("labels", "refuse", "warn", "in another group and of another label: one of them is wrong"),
    ("groups", "warn", "warn", "in another group: a split can part them"),
    ("samples", "note", None, "in the same group: what it says counts twice"),
)


def check_duplicates(subject: AuditContext) -> Iterator[Finding]:
    """Find scans that are identical but for gain and offset, or nearly so.

    Args:
        subject: What is audited.
    """
    scans, cohort = subject.scans, subject.cohort
    pairs, likeness = find_lookalikes(cohort.spectra, scans, cohort.groups[scans.owner])
    same = np.concatenate([_equal_pairs(subject), pairs[likeness >= SAME]])
    identical = _sets_by_place(subject, same)
    near = _sets_by_place(subject, pairs[likeness < SAME])
    for place, level, near_level, where in PLACES:
        if len(identical[place]):
            yield _tell(subject, f"duplicates:{place}", level, identical[place], "identical", where)
        if near_level is not None and len(near[place]):
            name = f"near_duplicates:{place}"
            yield _tell(subject, name, near_level, near[place], "nearly identical", where)


def check_blank_scans(subject: AuditContext) -> Iterator[Finding]:
    """Find scans that hold nothing: the same number throughout.

    Args:
        subject: What is audited.
    """
    blank = np.flatnonzero(subject.scans.is_blank)
    if len(blank):
        yield Finding(
            "scans:blank",
            "warn",
            len(blank),
            f"{counted(len(blank), 'scan')} with the same number throughout, the first of "
            f"{_name(subject, int(blank[0]))}",
        )


def _equal_pairs(subject: AuditContext) -> np.ndarray:
    """Scans equal in every bit, each with the next such one, [P, 2]."""
    scans = subject.scans
    order = np.argsort(scans.digest, kind="stable")
    order = order[~scans.is_blank[order]]
    equal = scans.digest[order[1:]] == scans.digest[order[:-1]]
    return np.stack([order[:-1][equal], order[1:][equal]], axis=1)


def _sets_by_place(subject: AuditContext, pairs: np.ndarray) -> dict[str, list[np.ndarray]]:
    """Join pairs to sets of scans, and say of each set where its scans stand."""
    scans, cohort = subject.scans, subject.cohort
    found: dict[str, list[np.ndarray]] = {place: [] for place, *_ in PLACES}
    if not len(pairs):
        return found
    count = len(scans.rows)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    set_of = connected_components(links, directed=False)[1]
    involved = np.unique(pairs)
    owner = scans.owner[involved]
    table = pd.DataFrame(
        {
            "sides": 0 if subject.split is None else subject.split[owner],
            "labels": np.unique(cohort.targets, axis=0, return_inverse=True)[1][owner],
            "groups": cohort.groups[owner],
        }
    )
    several = table.groupby(set_of[involved]).nunique() > 1
    members = pd.Series(involved).groupby(set_of[involved])
    for (_, here), (_, row) in zip(members, several.iterrows(), strict=True):
        place = "samples"
        if row["sides"]:
            place = "sides"
        elif row["groups"]:
            place = "labels" if row["labels"] else "groups"
        found[place].append(here.to_numpy())
    return found


def _tell(
    subject: AuditContext,
    name: str,
    level: Level,
    sets: list[np.ndarray],
    likeness: str,
    where: str,
) -> Finding:
    number = sum(map(len, sets))
    example = " and ".join(dict.fromkeys(_name(subject, int(scan)) for scan in sets[0][:2]))
    return Finding(
        name,
        level,
        number,
        f"{number} scans are {likeness} to one {where} (of {example}, say)",
    )


def _name(subject: AuditContext, scan: int) -> str:
    return f"sample {subject.cohort.sample_ids[int(subject.scans.owner[scan])]}"
