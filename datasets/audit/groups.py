"""Groups in several splits, hidden subjects, and names that differ in spelling only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from datasets.audit.context import AuditContext, names_subjects
from datasets.audit.findings import Finding, counted
from datasets.cohort import MISSING_LABEL, SAMPLE_ID, find_spellings

# With fewer groups than these, how a model does on a new one can hardly be told.
FEW_GROUPS = 10
# Sample names that end in a small number or a letter, after a mark: P07_1, P07-rep2, P07.a
REPLICATE = re.compile(
    r"^(?P<stem>.*\d.*?)[-_. ](?:rep|replicate|scan|spot|run|tech|t|r|s)?(?P<number>\d|10|[a-h])$",
    re.IGNORECASE,
)
# More names than these have to read so, otherwise it is chance.
MOSTLY = 0.5
MOST_EXAMPLES = 3


def check_groups(subject: AuditContext) -> Iterator[Finding]:
    """Groups in several splits, and columns of subjects that several groups share."""
    groups, split = subject.cohort.groups, subject.split
    if split is not None:
        torn = _spanning(groups, split)
        if len(torn):
            yield Finding(
                "groups:sides",
                "refuse",
                len(torn),
                f"{counted(len(torn), 'group')} of {len(np.unique(groups))} in several splits, "
                f"such as {torn[0]}: the test set holds groups that were trained on",
            )
    for column in subject.columns:
        values = subject.values(column)
        if names_subjects(column, values):
            yield from _check_subjects(subject, column, values)
    yield from _check_names(subject)
    number = len(np.unique(groups))
    if number < FEW_GROUPS:
        yield Finding(
            "groups:few",
            "note",
            number,
            f"{counted(number, 'group')}: how a model does on a new one rests on very few",
        )


def _check_subjects(subject: AuditContext, column: str, values: pd.Series) -> Iterator[Finding]:
    known = values.notna().to_numpy()
    named = values[known].to_numpy(dtype=str)
    shared = _spanning(named, subject.cohort.groups[known])
    if not len(shared):
        return
    torn = _spanning(named, subject.split[known]) if subject.split is not None else shared[:0]
    where = f", {len(torn)} of them in several splits" if len(torn) else ""
    yield Finding(
        f"groups:{column}",
        "refuse" if len(torn) else "warn",
        len(shared),
        f"{counted(len(shared), 'value')} of {column} in several groups{where}, "
        f"{(torn if len(torn) else shared)[0]} for one: if {column} is whom a sample is of, it "
        "should be data.group",
    )


def _check_names(subject: AuditContext) -> Iterator[Finding]:
    names = subject.cohort.sample_ids
    matches = [REPLICATE.match(name) for name in names]
    fits = np.array([match is not None for match in matches])
    if fits.mean() <= MOSTLY:
        return
    stems = np.array([match["stem"] for match in matches if match is not None])
    _, labels = np.unique(subject.cohort.targets[fits], axis=0, return_inverse=True)
    shared = _spanning(stems, subject.cohort.groups[fits])
    # Replicates are of one label; places that number their patients are of several.
    if len(shared) > MOSTLY * len(np.unique(stems)) and not len(_spanning(stems, labels)):
        yield Finding(
            "groups:sample_id",
            "warn",
            len(shared),
            f"names of samples read like replicates, {len(shared)} of them in several groups, "
            f"those of {shared[0]} for one: if they are, data.group should hold them together",
        )


def _spanning(names: np.ndarray, parts: np.ndarray) -> np.ndarray:
    counts = pd.Series(np.asarray(parts)).groupby(np.asarray(names)).nunique()
    return np.asarray(counts.index[counts > 1])


def check_spelling(subject: AuditContext) -> Iterator[Finding]:
    """Groups, labels, samples and categories that differ by spelling only."""
    cohort = subject.cohort
    roles = subject.roles
    kinds: dict[str, tuple[str, Iterable[object]]] = {
        "group": ("groups", cohort.groups),
        "sample_id": ("samples", cohort.sample_ids),
    }
    if cohort.task in ("binary", "multiclass"):
        left_out = [name for name in cohort.excluded if name != MISSING_LABEL]
        kinds["label"] = ("labels", [*cohort.samples[roles.label[0]], *left_out])
    if roles.group == SAMPLE_ID:
        del kinds["group"]
    for column in dict.fromkeys([*cohort.categorical, *subject.batches]):
        if column != roles.group and column not in cohort.numeric:
            kinds[column] = (f"values of {column}", subject.values(column).dropna())
    for name, (what, values) in kinds.items():
        names = {str(value) for value in values}
        found = find_spellings(names)
        if found:
            yield Finding(
                f"spelling:{name}",
                "warn",
                len(found),
                f"{counted(len(found), 'set')} of {what} that differ by case, blanks, zeros or "
                f"the form of characters only{_in_splits(subject, name, found)}, "
                f"{_examples(found)}: if they are one, spell them alike",
            )


def _in_splits(subject: AuditContext, name: str, found: list[list[str]]) -> str:
    if name != "group" or subject.split is None:
        return ""
    groups = subject.cohort.groups
    parted = [len(set(subject.split[np.isin(groups, spellings)])) > 1 for spellings in found]
    return f" ({sum(parted)} in several splits)" if any(parted) else ""


def _examples(found: list[list[str]]) -> str:
    examples = [" / ".join(repr(name) for name in names) for names in found[:MOST_EXAMPLES]]
    return "; ".join(examples)
