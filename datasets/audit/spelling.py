"""Whether groups, labels or samples that are told apart differ by their spelling only."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, counted
from datasets.cohort import MISSING_LABEL, SAMPLE_ID, find_spellings

MOST_EXAMPLES = 3


def check_spelling(subject: AuditContext) -> Iterator[Finding]:
    """Find groups, labels, samples and categories that are one but for their spelling.

    Args:
        subject: What is audited.
    """
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
                f"the form of characters only{_on_sides(subject, name, found)}, {_listed(found)}: "
                "if they are one, spell them alike",
            )


def _on_sides(subject: AuditContext, name: str, found: list[list[str]]) -> str:
    """How many of the sets of groups a split parts."""
    if name != "group" or subject.split is None:
        return ""
    groups = subject.cohort.groups
    parted = [len(set(subject.split[np.isin(groups, spellings)])) > 1 for spellings in found]
    return f" ({sum(parted)} on two sides of the split)" if any(parted) else ""


def _listed(found: list[list[str]]) -> str:
    examples = [" / ".join(repr(name) for name in names) for names in found[:MOST_EXAMPLES]]
    return "; ".join(examples)
