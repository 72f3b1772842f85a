"""Groups in several splits, hidden subjects, and names that differ in spelling only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

import numpy as np
import pandas as pd

from datasets.audit.context import AuditContext, names_subjects
from datasets.audit.findings import Finding, counted
from datasets.cohort import MISSING_LABEL, SAMPLE_ID, find_spellings
from datasets.messages import Message

# With fewer groups, performance on new ones can hardly be estimated.
FEW_GROUPS = 10
# Sample names that end in a small number or a letter, after a mark: P07_1, P07-rep2, P07.a
REPLICATE = re.compile(
    r"^(?P<stem>.*\d.*?)[-_. ](?:rep|replicate|scan|spot|run|tech|t|r|s)?(?P<number>\d|10|[a-h])$",
    re.IGNORECASE,
)
# Share of names that have to look so; fewer are chance.
MOSTLY = 0.5
MOST_EXAMPLES = 3


def check_groups(context: AuditContext) -> Iterator[Finding]:
    """Groups in several splits, and columns of subjects that several groups share."""
    groups, split = context.cohort.groups, context.split
    if split is not None:
        torn = _spanning(groups, split)
        if len(torn):
            yield Finding(
                "groups:sides",
                "refuse",
                len(torn),
                Message(
                    "{} of {} in several splits, such as {}: the test set holds groups that were "
                    "trained on",
                    counted(len(torn), "group"),
                    len(np.unique(groups)),
                    torn[0],
                ),
            )
    for column in context.columns:
        values = context.values(column)
        if names_subjects(column, values):
            yield from _check_subjects(context, column, values)
    yield from _check_names(context)
    number = len(np.unique(groups))
    if number < FEW_GROUPS:
        yield Finding(
            "groups:few",
            "note",
            number,
            Message(
                "{}: how a model does on a new one rests on very few", counted(number, "group")
            ),
        )


def _check_subjects(context: AuditContext, column: str, values: pd.Series) -> Iterator[Finding]:
    known = values.notna().to_numpy()
    named = values[known].to_numpy(dtype=str)
    shared = _spanning(named, context.cohort.groups[known])
    if not len(shared):
        return
    torn = _spanning(named, context.split[known]) if context.split is not None else shared[:0]
    where = ", {} of them in several splits" if len(torn) else ""
    yield Finding(
        f"groups:{column}",
        "refuse" if len(torn) else "warn",
        len(shared),
        Message(
            f"{{}} of {{}} in several groups{where}, such as {{}}: if {{}} identifies the subject, "
            "it should be data.group",
            *(counted(len(shared), "value"), column, *([len(torn)] if len(torn) else [])),
            *((torn if len(torn) else shared)[0], column),
        ),
    )


def _check_names(context: AuditContext) -> Iterator[Finding]:
    names = context.cohort.sample_ids
    matches = [REPLICATE.match(name) for name in names]
    fits = np.array([match is not None for match in matches])
    if fits.mean() <= MOSTLY:
        return
    stems = np.array([match["stem"] for match in matches if match is not None])
    _, labels = np.unique(context.cohort.targets[fits], axis=0, return_inverse=True)
    shared = _spanning(stems, context.cohort.groups[fits])
    # Replicates have one label; numbered patients of a site have several.
    if len(shared) > MOSTLY * len(np.unique(stems)) and not len(_spanning(stems, labels)):
        yield Finding(
            "groups:sample_id",
            "warn",
            len(shared),
            Message(
                "names of samples read like replicates, {} of them in several groups, such as "
                "those of {}: if they are, data.group should hold them together",
                len(shared),
                shared[0],
            ),
        )


def _spanning(names: np.ndarray, parts: np.ndarray) -> np.ndarray:
    counts = pd.Series(np.asarray(parts)).groupby(np.asarray(names)).nunique()
    return np.asarray(counts.index[counts > 1])


def check_spelling(context: AuditContext) -> Iterator[Finding]:
    """Groups, labels, samples and categories that differ by spelling only."""
    cohort = context.cohort
    roles = context.roles
    named: dict[str, tuple[str, Iterable[object]]] = {
        "group": ("groups", cohort.groups),
        "sample_id": ("samples", cohort.sample_ids),
    }
    if cohort.task in ("binary", "multiclass"):
        left_out = [name for name in cohort.excluded if name != MISSING_LABEL]
        named["label"] = ("labels", [*cohort.samples[roles.label[0]], *left_out])
    if roles.group == SAMPLE_ID:
        del named["group"]
    for column in dict.fromkeys([*cohort.categorical, *context.batches]):
        if column != roles.group and column not in cohort.numeric:
            named[column] = ("values of {}", context.values(column).dropna())
    for name, (what, values) in named.items():
        names = {str(value) for value in values}
        found = find_spellings(names)
        if found:
            yield Finding(
                f"spelling:{name}",
                "warn",
                len(found),
                _spelled_apart(context, name, what, found),
            )


def _spelled_apart(context: AuditContext, name: str, what: str, found: list[list[str]]) -> Message:
    sets = f"{'set' if len(found) == 1 else 'sets'} of {what}"
    parted = 0
    if name == "group" and context.split is not None:
        groups, split = context.cohort.groups, context.split
        parted = sum(len(set(split[np.isin(groups, spellings)])) > 1 for spellings in found)
    examples = [" / ".join(repr(one) for one in names) for names in found[:MOST_EXAMPLES]]
    return Message(
        "{} {} that differ by case, blanks, zeros or the form of characters only"
        f"{' ({} in several splits)' if parted else ''}, {{}}: if they are one, spell them alike",
        *(len(found), Message(sets, *([name] if what == "values of {}" else []))),
        *([parted] if parted else []),
        "; ".join(examples),
    )
