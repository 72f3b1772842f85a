"""What the columns of a table are: label, group, covariates, or none of these."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import skew

from datasets.audit import is_batch, names_subjects
from datasets.cohort import MISSING_TEXT, SAMPLE_ID, has_no_label, is_missing, negative_first
from datasets.errors import CohortError, nearest

# Names of labels, the likeliest first, by themselves or as a word of a longer name.
LABEL_WORDS = (
    *("label", "labels", "class", "target", "outcome", "diagnosis", "dx", "disease", "status"),
    *("phenotype", "condition", "response", "responder", "species", "type", "case", "group"),
)
# More different numbers than these are values to regress, not classes.
MOST_CLASSES = 20
# More different texts are names or remarks, not categories.
MOST_CATEGORIES = 20
# Numbers of which so many are readable are numbers with mistakes.
MOSTLY = 0.8
# Columns that number the scans or samples of a patient.
REPLICATE = re.compile(r"(?:.*[^a-z])?(?:rep|replicate)(?:[^a-z].*)?")
# Days such as 2024-01-31, 31.01.2024 or 1/31/24, with a time or without.
DAY = re.compile(
    r"(?:\d{4}([-/.])\d{1,2}\1\d{1,2}|\d{1,2}([-/.])\d{1,2}\2(?:\d{2}){1,2})(?:[T ].*)?"
)
DECIMAL_COMMA = re.compile(r"[-+]?\d+,\d+")
# Where its logarithm is less skewed than this, and the numbers are more.
SKEWED = 1.0


@dataclass
class Columns:
    """The columns by role; ``idle`` are not used, with the reason; ``given`` were not guessed.

    ``task`` is a value of ``data.task``; ``label`` one column or, of cohort.yaml, several.
    """

    label: list[str]
    group: str
    task: str = "auto"
    numeric: list[str] = field(default_factory=list)
    categorical: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)
    idle: dict[str, str] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)
    given: frozenset[str] = frozenset()

    def leave_out(self, column: str, reason: str) -> None:
        """Take a covariate away."""
        for columns in (self.numeric, self.categorical, self.log):
            if column in columns:
                columns.remove(column)
        self.idle[column] = reason


def guess_columns(table: pd.DataFrame, roles: Mapping[str, Any], where: str) -> Columns:
    """Guess what ``roles``, of the command line and cohort.yaml, do not tell.

    ``table`` is text. CohortError where no column looks like a label, or it has a single value.
    """
    for column in (role for role in (roles.get("label"), roles.get("group")) if role):
        for name in [column] if isinstance(column, str) else column:
            if name not in table:
                raise CohortError(f"{where} has no column {name!r}{nearest(name, table.columns)}")
    label = roles.get("label") or _guess_label(table, where)
    labels = [label] if isinstance(label, str) else list(label)
    _require_two(table, labels, where)
    group = roles.get("group") or _guess_group(table, labels)
    columns = Columns(labels, group, _guess_task(table, labels), given=frozenset(roles))
    if table[group].nunique() == len(table):
        columns.questions.append(
            "Is each sample a patient of its own? If several are of one, name the column of "
            "patients as group: a split must not separate them."
        )
    if "numeric" in roles or "categorical" in roles:
        columns.numeric = list(roles.get("numeric") or [])
        columns.categorical = list(roles.get("categorical") or [])
    else:
        for column in table.columns:
            if column not in (SAMPLE_ID, group, *labels):
                _place(columns, column, table)
    if "label" not in roles:
        columns.questions += [
            f"{c} reads like a label, too, and is a covariate now. Is it known before {labels[0]}? "
            f"Otherwise take it out; --label {c} would learn it."
            for c in [*columns.numeric, *columns.categorical]
            if _plain(c) in LABEL_WORDS
        ]
    columns.log = [c for c in columns.numeric if _is_skewed(_numbers(table[c]))]
    return columns


def _guess_label(table: pd.DataFrame, where: str) -> str:
    """The column with the likeliest name, otherwise the only one of a case and a control."""
    columns = [c for c in table.columns if c != SAMPLE_ID and not is_batch(c)]
    named = [c for word in LABEL_WORDS for c in columns if _plain(c) == word]
    named += [c for word in LABEL_WORDS for c in columns if word in re.findall("[a-z]+", c.lower())]
    fitting = [c for c in dict.fromkeys(named) if _could_be_label(table[c])]
    if not fitting:
        fitting = [c for c in columns if _is_case_and_control(table[c])][:2]
    if fitting and (len(fitting) == 1 or fitting[0] in named):
        return fitting[0]
    if named:
        return named[0]  # of a single value, which is told
    raise CohortError(
        f"{where}: no column looks like what is to be learned; name it, as in --label COLUMN "
        f"(columns: {', '.join(columns) or 'none'})"
    )


def _plain(column: str) -> str:
    return re.sub("[^a-z]", "", column.lower())


def _values(column: pd.Series) -> pd.Series:
    return column[~has_no_label(column)]


def _could_be_label(column: pd.Series) -> bool:
    different = _values(column).nunique()
    numbers = not np.isnan(_numbers(_values(column))).any()
    return different >= 2 and (different <= len(column) / 2 or numbers)


def _is_case_and_control(column: pd.Series) -> bool:
    values = _values(column).unique().tolist()
    texts = len(values) == 2 and np.isnan(_numbers(pd.Series(values))).all()
    return texts and negative_first(values) is not None


def _require_two(table: pd.DataFrame, labels: list[str], where: str) -> None:
    for label in labels:
        values = _values(table[label]).unique()
        if len(values) < 2:
            only = f"is {values[0]!r} in all samples" if len(values) else "is empty"
            raise CohortError(
                f"{where}: {label!r}, which looks like what is to be learned, {only}: there is "
                f"nothing to learn; name another column, as in --label COLUMN (columns: "
                f"{', '.join(c for c in table.columns if c not in (SAMPLE_ID, label)) or 'none'})"
            )


def _guess_group(table: pd.DataFrame, labels: list[str]) -> str:
    """The column of subjects; ``sample_id`` where there is none."""
    columns = [c for c in table.columns if c not in (SAMPLE_ID, *labels)]
    named = [c for c in columns if _plain(c) == "group"]
    named += [c for c in columns if names_subjects(c, table[c])]
    known = [c for c in named if not is_missing(table[c]).any() and table[c].nunique() > 1]
    return known[0] if known else SAMPLE_ID


def _guess_task(table: pd.DataFrame, labels: list[str]) -> str:
    numbers = [_numbers(_values(table[label])) for label in labels]
    if any(np.isnan(values).any() for values in numbers):
        return "auto"
    if len(labels) > 1:
        return "multilabel" if all(np.isin(v, (0, 1)).all() for v in numbers) else "regression"
    whole = bool((numbers[0] == np.round(numbers[0])).all())
    few = len(np.unique(numbers[0])) <= MOST_CLASSES
    return "auto" if whole and few else "regression"


def _place(columns: Columns, name: str, table: pd.DataFrame) -> None:
    """Give a column its role as a covariate, or the reason why it has none."""
    values = table[name][~is_missing(table[name])]
    different, numbers = values.nunique(), _numbers(values)
    readable = 1 - np.isnan(numbers).mean() if len(values) else 0.0
    if different < 2:
        columns.idle[name] = "one value in all samples" if different else "empty"
    elif is_batch(name) or REPLICATE.fullmatch(name.lower()):
        columns.idle[name] = "tells where, when or with what was measured"
    elif names_subjects(name, values):
        columns.idle[name] = "names of patients"
    elif table[columns.group].nunique() < len(table) and _same(table, name, columns.group):
        columns.idle[name] = f"{columns.group} in another form"
    elif values.str.fullmatch(DAY).mean() >= MOSTLY:
        columns.idle[name] = "days"
    elif values.str.fullmatch(DECIMAL_COMMA).mean() >= MOSTLY:
        columns.idle[name] = f"numbers with a decimal comma, such as {values.iloc[0]!r}"
        columns.questions.append(
            f"{name} has numbers with a decimal comma, such as {values.iloc[0]!r}. Write points, "
            "then add it to numeric."
        )
    elif readable == 1:
        (columns.numeric if different > 2 else columns.categorical).append(name)
    elif readable >= MOSTLY:
        bad = values[np.isnan(numbers)]
        columns.idle[name] = f"numbers, but for {len(bad)} cells such as {bad.iloc[0]!r}"
        columns.questions.append(
            f"{name} has {len(bad)} cells that are no numbers, such as {bad.iloc[0]!r}. Mend or "
            "empty them, then add it to numeric."
        )
    elif different <= min(MOST_CATEGORIES, len(table) / 3):
        columns.categorical.append(name)
    else:
        columns.idle[name] = f"{different} different texts"


def _same(table: pd.DataFrame, one: str, other: str) -> bool:
    pairs = table[[one, other]].drop_duplicates()
    return len(pairs) == table[one].nunique() == table[other].nunique()


def _numbers(values: pd.Series) -> np.ndarray:
    """The numbers of texts, NaN where one is missing, infinite or none."""
    given = values.where(~values.isin(MISSING_TEXT), None)
    numbers = np.asarray(pd.to_numeric(given, errors="coerce"), dtype=np.float64)
    return np.where(np.isfinite(numbers), numbers, np.nan)


def _is_skewed(numbers: np.ndarray) -> bool:
    """Whether log(1 + x), which ``data.log`` takes, is much less skewed."""
    known = numbers[~np.isnan(numbers)]
    if len(np.unique(known)) < 3 or known.min() < 0:
        return False
    return skew(known) > SKEWED and abs(skew(np.log1p(known))) < skew(known) / 2
