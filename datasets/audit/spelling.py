"""Names that differ by their spelling only: P001 and p001, 1 and 1.0."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator

import numpy as np

from datasets.audit.findings import Finding, counted
from datasets.audit.subject import Subject
from datasets.roles import MISSING_LABEL, SAMPLE_ID

# Zeros before a number, but not behind a decimal point.
LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
NO_FRACTION = re.compile(r"(?<=\d)\.0+$")
MOST_EXAMPLES = 3


def plain_spelling(name: str) -> str:
    """A name without what spelling alone may change.

    Case, blanks, leading zeros, a fraction of zero, and forms of one character in Unicode.

    Example:
        >>> plain_spelling("P 001") == plain_spelling("p1"), plain_spelling("101.0")
        (True, '101')
    """
    text = unicodedata.normalize("NFKC", name)
    seen = (letter for letter in text if unicodedata.category(letter) not in ("Cf", "Cc"))
    text = "".join("".join(seen).casefold().split())
    return LEADING_ZEROS.sub("", NO_FRACTION.sub("", text))


def find_spellings(names: Iterable[str]) -> list[list[str]]:
    """Sets of names that differ by their spelling only, each sorted.

    Example:
        >>> find_spellings(["P001", "p001", "P002"])
        [['P001', 'p001']]
    """
    spellings = defaultdict(set)
    for name in names:
        spellings[plain_spelling(name)].add(name)
    return sorted(sorted(found) for found in spellings.values() if len(found) > 1)


def check_spelling(subject: Subject) -> Iterator[Finding]:
    """Find groups, labels, samples and categories that are one but for their spelling.

    Args:
        subject: What is audited.
    """
    cohort = subject.cohort
    roles = subject.roles
    kinds = {
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


def _on_sides(subject: Subject, name: str, found: list[list[str]]) -> str:
    """How many of the sets of groups a split parts."""
    if name != "group" or subject.split is None:
        return ""
    groups = subject.cohort.groups
    parted = [len(set(subject.split[np.isin(groups, spellings)])) > 1 for spellings in found]
    return f" ({sum(parted)} on two sides of the split)" if any(parted) else ""


def _listed(found: list[list[str]]) -> str:
    examples = [" / ".join(repr(name) for name in names) for names in found[:MOST_EXAMPLES]]
    return "; ".join(examples)
