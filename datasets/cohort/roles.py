"""Roles and units of columns, as cohort.yaml and the caller give them."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from datasets.cohort.positive_class import labels_text, negative_first
from datasets.cohort.table import MISSING_TEXT, one_line, require_columns
from datasets.errors import CohortError, nearest

KEPT_TAGS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
SAMPLE_ID = "sample_id"
ROLES_FILE = "cohort.yaml"
# No label has this name, unless `labels` lists it: Python writes its None as a word.
NO_LABEL_TEXT = MISSING_TEXT | {"None"}
# Name of the left-out samples without a label.
MISSING_LABEL = "(missing)"
TRUTHS = (str(True), str(False))
# Name of an axis without a unit; a unit is never guessed.
UNNAMED_AXIS = "axis"


class TextLoader(yaml.SafeLoader):
    """Loads scalars such as 2024, 010, no and 2024-01-15 as text; only null is not."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in KEPT_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_cohort_yaml(path: Path) -> Any:
    """The content of an existing ``cohort.yaml``, scalars as text.

    Raises:
        OSError: It cannot be read.
        UnicodeDecodeError: It is not UTF-8.
        yaml.YAMLError: It is not YAML.
    """
    return yaml.load(path.read_text(encoding="utf-8"), TextLoader)


@dataclass(frozen=True)
class Roles:
    """Roles of the columns of samples.csv; several label columns are several targets."""

    label: list[str]
    group: str
    numeric: list[str]
    categorical: list[str]

    @classmethod
    def choose(
        cls,
        folder: Path,
        label: str | Sequence[str] | None,
        group: str | None,
        numeric: Sequence[str] | None,
        categorical: Sequence[str] | None,
    ) -> Roles:
        """The caller's choices, then those of cohort.yaml, then the defaults.

        A column that the caller chose as a label is no longer one of cohort.yaml's covariates.
        """
        given = {"label": label, "group": group, "numeric": numeric, "categorical": categorical}
        written = _read_roles(folder / ROLES_FILE)
        chosen: dict[str, Any] = {"label": "label", "group": "group", "numeric": []}
        chosen["categorical"] = []
        chosen.update({role: value for role, value in written.items() if value is not None})
        chosen.update({role: value for role, value in given.items() if value is not None})
        for role in ("label", "group"):
            if not isinstance(chosen[role], str) and not (role == "label" and label is not None):
                raise CohortError(f"{role} is {chosen[role]!r}; one column's name was expected")
        chosen["label"] = _columns(chosen["label"])
        for role in ("numeric", "categorical"):
            value = chosen[role]
            if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
                raise CohortError(f"{role} is {value!r}; a list of columns' names was expected")
            taken = () if given[role] is not None or label is None else chosen["label"]
            chosen[role] = [column for column in value if column not in taken]
        return cls(**chosen)

    def check(self, table: pd.DataFrame, where: str) -> None:
        """Check that the columns exist, and that no covariate is label, group or sample_id."""
        require_columns(table, self.label, where, "label column")
        require_columns(table, [self.group], where, "group column")
        require_columns(table, self.numeric, where, "numeric covariate")
        require_columns(table, self.categorical, where, "categorical covariate")
        for column in self.label:
            if column in (self.group, SAMPLE_ID):
                raise CohortError(
                    f"column {column!r} cannot be the label and the group or sample_id too"
                )
        covariates = [*self.numeric, *self.categorical]
        for column, role in [
            *((column, "label") for column in self.label),
            (self.group, "group"),
            (SAMPLE_ID, "sample_id"),
        ]:
            if column in covariates:
                raise CohortError(
                    f"{column!r} is the {role} column, it cannot be a covariate: "
                    "the model would learn the answer from it"
                )
        twice = [column for column in covariates if covariates.count(column) > 1]
        if twice:
            raise CohortError(f"covariate {twice[0]!r} is listed more than once")


def _columns(label: Any) -> list[str]:
    columns = [label] if isinstance(label, str) else list(label)
    if not columns or not all(isinstance(column, str) for column in columns):
        raise CohortError(f"label is {label!r}; a column's name, or a list of them, was expected")
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise CohortError(f"label column {twice[0]!r} is listed more than once")
    return columns


def _read_roles(path: Path) -> dict[str, Any]:
    """`roles` of cohort.yaml; empty where there is no file."""
    if not path.is_file():
        return {}
    try:
        content = read_cohort_yaml(path)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise CohortError(f"{path} cannot be read as YAML: {one_line(error)}") from error
    roles = content.get("roles") if isinstance(content, dict) else content
    if roles is None:
        return {}
    if not isinstance(roles, dict):
        raise CohortError(f"{path}: 'roles' with group, label, numeric, categorical was expected")
    known = ["group", "label", "numeric", "categorical"]
    for role in roles:
        if role not in known:
            raise CohortError(f"{path}: unknown role {role!r}{nearest(role, known)}")
    return roles


def in_order(labels: Sequence[str]) -> list[str]:
    """Sort names: as numbers where all are numbers, otherwise as text."""
    try:
        return sorted(labels, key=lambda text: (float(text), text))
    except ValueError:
        return sorted(labels)


def number_classes(
    column: pd.Series, labels: Mapping[Any, int] | None, where: str
) -> tuple[np.ndarray, list[str], dict[str, int]]:
    """Number the labels, text [N]; None for ``labels`` makes each label a class.

    Of two the negative one is class 0, if numbers or a word such as ``control`` distinguish them.

    Returns:
        Class numbers with -1 for what is left out, int64 [N]; the classes' names (labels of one
        class joined by '+'); the labels that are left out with their counts.

    Raises:
        CohortError: The mapping does not fit the labels, fewer than two classes are left, or
            nothing says which of two is the positive one.

    Example:
        >>> column = pd.Series(["HCC", "CHB", "LC", "HC", ""])
        >>> targets, names, left_out = number_classes(column, {"HCC": 1, "LC": 0, "CHB": 0}, "")
        >>> targets.tolist(), names, left_out
        ([1, 0, 0, -1, -1], ['LC+CHB', 'HCC'], {'HC': 1, '(missing)': 1})
    """
    counts = Counter(map(str, column))
    present = [text for text in counts if text not in NO_LABEL_TEXT]
    if labels is None:
        numbers = {text: number for number, text in enumerate(_class_order(present, where))}
    else:
        numbers = _checked_mapping(labels, counts, where)
    used = sorted(set(numbers.values()))
    if len(used) < 2:
        kept = ", ".join(map(repr, numbers)) or "no label"
        raise CohortError(
            f"{where}: {kept} kept leaves {len(used)} class{'' if used else 'es'}, at least 2 are "
            f"needed (labels: {', '.join(present) or 'none'})"
        )
    if used != list(range(len(used))):
        raise CohortError(
            f"labels have the class numbers {', '.join(map(str, used))}; 0 to {len(used) - 1} "
            "without a gap was expected"
        )
    names = ["+".join(text for text, n in numbers.items() if n == number) for number in used]
    excluded: dict[str, int] = {}
    for text, count in counts.items():
        if text not in numbers:
            key = MISSING_LABEL if text in NO_LABEL_TEXT else text
            excluded[key] = excluded.get(key, 0) + count
    targets = np.array([numbers.get(text, -1) for text in column], dtype=np.int64)
    return targets, names, excluded


def _class_order(present: Sequence[str], where: str) -> list[str]:
    """Labels by class number; of two the positive one is the second, and is never guessed."""
    if len(present) != 2:
        return in_order(present)
    order = negative_first(present)
    if order is None:
        first, second = in_order(present)
        option = shlex.quote(labels_text([first, second]))
        raise CohortError(
            f"{where}: labels {first!r} and {second!r} do not say which is the positive class; "
            f"give it the number 1, as in --data.labels {option}"
        )
    return order


def _checked_mapping(
    labels: Mapping[Any, int], counts: Mapping[str, int], where: str
) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for key, number in labels.items():
        text = str(key).strip()
        if text in TRUTHS:  # a boolean, which tables spell in several ways
            text = next((name for name in counts if name.lower() == text.lower()), text)
        if text not in counts:
            choices = [name for name in counts if name not in NO_LABEL_TEXT]
            raise CohortError(f"{where}: label {text!r} does not occur{nearest(text, choices)}")
        if isinstance(number, bool) or not isinstance(number, int | np.integer):
            raise CohortError(f"label {text!r} has class {number!r}; a whole number was expected")
        numbers[text] = int(number)
    return numbers


def read_units(folder: str | Path) -> dict[str, str]:
    """`units` of a cohort's cohort.yaml: of `axis`, `spectra` and covariates, only ever shown."""
    path = Path(folder) / ROLES_FILE
    if not path.is_file():
        return {}
    content = read_cohort_yaml(path)
    units = content.get("units") if isinstance(content, dict) else None
    if not isinstance(units, dict):
        return {}
    return {str(name): str(unit) for name, unit in units.items() if unit is not None}
