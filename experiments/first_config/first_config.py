"""A cohort looked at, and the text of its first configuration."""

from __future__ import annotations

import textwrap
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from datasets.audit import Finding
from datasets.cohort import (
    SAMPLE_ID,
    SAMPLES_FILE,
    Cohort,
    has_no_label,
    in_order,
    negative_first,
    read_roles,
    read_table,
    read_units,
)
from datasets.errors import CohortError
from experiments.analysis import AUTOMATIC_SCANS, audit_cohort
from experiments.builders import read_cohort, split_cohort
from experiments.config import (
    Config,
    check_config,
    find_config,
    read_yaml,
    write_inline,
    write_yaml,
)
from experiments.first_config.guessed_axis import Technique, guess_technique
from experiments.first_config.guessed_columns import Columns, guess_columns

# The configuration that suits any cohort; what is found out is added to it.
BASIS = "auto"
# As docs/guide/spectra.md has it for vibrational spectra.
VIBRATIONAL = [
    "snv",
    {"name": "standardize", "params": {"min_std": 0.1, "relative_to": "median", "clip": 8}},
]
# Train, validation and test; the first that the groups allow. None: the default.
FRACTIONS: tuple[list[float] | None, ...] = (
    None,
    [0.6, 0.2, 0.2],
    [0.5, 0.25, 0.25],
    [0.4, 0.3, 0.3],
)
# A class of fewer groups is not in all three of them.
FEWEST_GROUPS = 3
WIDTH = 100
GUESS, QUESTION = "GUESS", "QUESTION"


@dataclass
class FirstConfig:
    """A cohort's folder, what was found out about it, and what could not be.

    ``data`` are the settings of the section; ``about`` comments by key; ``questions`` are those of
    :class:`Columns` and the audit's.
    """

    root: Path
    columns: Columns
    classes: dict[str, int]
    technique: Technique | None = None
    data: dict[str, Any] = field(default_factory=dict)
    about: dict[str, str] = field(default_factory=dict)
    questions: list[str] = field(default_factory=list)

    def text(self) -> str:
        """The configuration as commented YAML."""
        basis = read_yaml(find_config(BASIS).read_text("utf-8"), BASIS)
        data = self.data | {k: v for k, v in basis.pop("data").items() if k not in self.data}
        lines = _comment(
            f"Written by scanfire new after a look at the cohort. {GUESS}: by names and values, "
            f"not known{'; questions are for you' if self.questions else ''}. More keys: "
            "--print-config."
        )
        for question in self.questions:
            lines += _comment(f"{QUESTION}: {question}")
        lines.append("data:")
        for key, value in data.items():
            if key in self.about:
                lines += _comment(self.about[key], "  ")
            lines.append(f"  {key}: {write_inline(value)}")
        idle = self.columns.idle
        if idle:
            lines += _comment("Not used:", "  ")
            lines += [f"  #   {' '.join(name.split())}: {why}" for name, why in idle.items()]
        return "\n".join([*lines, write_yaml(basis)])

    def told(self) -> list[str]:
        """What was found out, in lines for a terminal."""
        columns = self.columns
        counts = ", ".join(f"{name} {count}" for name, count in self.classes.items())
        lines = [f"label {', '.join(columns.label)}{f': {counts}' if counts else ''}"]
        if "labels" in self.data and len(self.data["labels"]) == 2:
            positive = next(name for name, number in self.data["labels"].items() if number == 1)
            lines.append(f"positive class: {positive}")
        group = "each sample by itself" if columns.group == SAMPLE_ID else columns.group
        covariates = ", ".join([*columns.numeric, *columns.categorical]) or "none"
        lines += [f"groups: {group}; covariates: {covariates}"]
        if columns.idle:
            lines.append(f"not used: {', '.join(columns.idle)}")
        if self.technique:
            lines.append(f"spectra: {self.technique.name} ({self.technique.unit}), by their axis")
        return [*lines, *(f"question: {question}" for question in self.questions)]


def look_at(root: Path, label: str | None = None, group: str | None = None) -> FirstConfig:
    """Look at a cohort's folder; ``label`` and ``group`` are columns that are known.

    CohortError where nothing can be learned of it.
    """
    where = str(root / SAMPLES_FILE)
    table = read_table(root / SAMPLES_FILE, [SAMPLE_ID])
    # An import lists no covariates where it was told none.
    roles = {role: columns for role, columns in read_roles(root).items() if columns}
    roles |= {k: v for k, v in (("label", label), ("group", group)) if v is not None}
    columns = guess_columns(table, roles, where)
    first = FirstConfig(root, columns, {}, questions=list(columns.questions))
    if columns.task == "auto":
        values = table[columns.label[0]]
        first.classes = dict(Counter(values[~has_no_label(values)]).most_common())
    _set_data(first)
    cohort = _settle(first)
    if cohort.has_spectra:
        _look_at_axis(first, cohort)
    return first


def _set_data(first: FirstConfig) -> None:
    """The settings that follow from the columns, with a comment on each."""
    columns, data = first.columns, first.data
    data["root"] = str(first.root.resolve())
    if columns.task != "auto":
        data["task"] = columns.task
        first.about["task"] = f"{GUESS}: numbers"
    counts = ", ".join(f"{name} {count}" for name, count in first.classes.items())
    data["label"] = columns.label if len(columns.label) > 1 else columns.label[0]
    first.about["label"] = _marked(columns, "label", "what is to be learned", counts)
    if len(first.classes) == 2:
        _set_positive(first)
    data["group"] = columns.group
    first.about["group"] = _marked(columns, "group", "a split keeps together what has one value")
    if columns.numeric or columns.categorical:
        data["numeric"], data["categorical"] = columns.numeric, columns.categorical
        first.about["numeric"] = _marked(columns, "numeric", "covariates that are numbers")
        first.about["categorical"] = _marked(
            columns, "categorical", "covariates that are categories"
        )
    if columns.log:
        data["log"] = columns.log
        first.about["log"] = f"{GUESS}: skewed, so that log(1 + x) is taken"


def _marked(columns: Columns, role: str, meaning: str, more: str = "") -> str:
    mark = "" if role in columns.given else f"{GUESS}: "
    return f"{mark}{meaning}{f' ({more})' if more else ''}"


def _set_positive(first: FirstConfig) -> None:
    order = negative_first(list(first.classes))
    negative, positive = order or in_order(list(first.classes))[::-1]
    first.data["labels"] = {positive: 1, negative: 0}
    about = f"{positive} is positive: sensitivity and precision are of it"
    first.about["labels"] = f"{GUESS}: {about}"
    if order is None:
        first.questions.append(
            f"Is {positive} the positive class? Nothing tells; otherwise exchange the numbers of "
            "labels."
        )


def _settle(first: FirstConfig) -> Cohort:
    """Read, split and audit the cohort; leave out what would refuse a training."""
    _leave_out_rare(first)
    config = _config(first)
    cohort = read_cohort(config.data)
    split = _choose_split(first, cohort)
    found = audit_cohort(_config(first), cohort, split, AUTOMATIC_SCANS)
    refused = {f.name.partition(":")[2]: f for f in found if f.stops}
    covariates = {*first.columns.numeric, *first.columns.categorical}
    for column in refused.keys() & covariates:
        first.columns.leave_out(column, str(refused[column].sentence))
    if not first.columns.log:
        first.data.pop("log", None)
    first.questions += [_as_question(f) for f in found if _needs_an_answer(f, covariates)]
    return cohort


def _needs_an_answer(found: Finding, mended: set[str]) -> bool:
    kind, _, column = found.name.partition(":")
    stops = found.stops and column not in mended
    return stops or (found.level == "warn" and kind == "groups")


def _as_question(found: Finding) -> str:
    sentence = str(found.sentence)
    return f"{sentence[0].upper()}{sentence[1:]}."


def _leave_out_rare(first: FirstConfig) -> None:
    """Map the classes that have groups enough, where some have not."""
    if not first.classes:
        return
    table = read_table(first.root / SAMPLES_FILE)
    groups = table.groupby(first.columns.label[0])[first.columns.group].nunique()
    rare = [name for name in first.classes if groups[name] < FEWEST_GROUPS]
    kept = in_order([name for name in first.classes if name not in rare])
    if not rare:
        return
    if len(kept) < 2:
        raise CohortError(
            f"{first.root / SAMPLES_FILE}: {first.columns.label[0]!r} has "
            f"{len(kept)} class{'' if len(kept) == 1 else 'es'} of at least {FEWEST_GROUPS} groups "
            f"({', '.join(f'{name}: {groups[name]}' for name in first.classes)}); each of at least "
            "two has to be in the training, the validation and the test set"
        )
    if len(kept) == 2:
        first.classes = {name: first.classes[name] for name in kept}
        _set_positive(first)
    else:
        first.data["labels"] = {name: number for number, name in enumerate(kept)}
    first.about["labels"] = (
        f"{first.about.get('labels', 'classes by number')}; too rare for a split: {', '.join(rare)}"
    )


def _choose_split(first: FirstConfig, cohort: Cohort) -> np.ndarray | None:
    """A split that the groups allow; None where there is none, which is then a question."""
    problem = ""
    for fractions in FRACTIONS:
        if fractions is not None:
            first.data["split"] = {"fractions": fractions}
            first.about["split"] = "Shares of training, validation and test that the groups allow"
        try:
            return split_cohort(cohort, _config(first).data, None)
        except CohortError as error:
            problem = problem or str(error)
    del first.data["split"]
    first.questions.append(f"No split is possible: {problem}")
    return None


def _config(first: FirstConfig) -> Config:
    return check_config({"exp_name": "first", "seed": 0, "data": first.data})


def _look_at_axis(first: FirstConfig, cohort: Cohort) -> None:
    rows = np.concatenate(cohort.scan_rows)[:AUTOMATIC_SCANS]
    some = cohort.spectra[np.sort(rows[:: max(1, len(rows) // 100)])]
    unit = read_units(first.root).get("axis", "")
    first.technique = guess_technique(cohort.axis, some, unit)
    extent = f"{cohort.spec_len} points from {cohort.axis[0]:g} to {cohort.axis[-1]:g}"
    if first.technique is None:
        about = f"Of {extent}: chosen within the training set."
    elif first.technique.is_vibrational:
        first.data["transforms"] = VIBRATIONAL
        about = f"{GUESS}: {first.technique.name}, {extent} {first.technique.unit}."
    else:
        name, unit, _ = first.technique
        about = f"{GUESS}: {name}, {extent} {unit}. Chosen within the training set."
    first.about["transforms"] = about


def _comment(text: str, indent: str = "") -> list[str]:
    start = f"{indent}# "
    plain = " ".join(text.split())
    return textwrap.wrap(plain, WIDTH, initial_indent=start, subsequent_indent=start)
