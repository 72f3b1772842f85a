"""Roles and units of columns, as cohort.yaml and the caller give them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from datasets.cohort.names import SAMPLE_ID
from datasets.cohort.table import require_columns
from datasets.errors import CohortError, nearest, refused

KEPT_TAGS = ("tag:yaml.org,2002:null", "tag:yaml.org,2002:merge")
ROLES_FILE = "cohort.yaml"
# Name of an axis without a unit; a unit is never guessed.
UNNAMED_AXIS = "axis"


class TextLoader(yaml.SafeLoader):
    """Loads scalars such as 2024, 010, no and 2024-01-15 as text; only null is not."""


TextLoader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if tag in KEPT_TAGS]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def read_cohort_yaml(path: Path) -> Any:
    """The content of an existing ``cohort.yaml``, scalars as text."""
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
        columns: Iterable[str],
        label: str | Sequence[str] | None,
        group: str | None,
        numeric: Sequence[str] | None,
        categorical: Sequence[str] | None,
    ) -> Roles:
        """The caller's choices, then those of cohort.yaml, then the defaults.

        Without a group chosen, or one of ``columns`` of this name, perhaps misspelt, each sample is
        its own. A column chosen as a label is no covariate, whatever cohort.yaml says.
        """
        given = {"label": label, "group": group, "numeric": numeric, "categorical": categorical}
        has_group = get_close_matches("group", map(str.lower, columns), n=1)
        chosen: dict[str, Any] = {"label": "label", "numeric": [], "categorical": []}
        chosen["group"] = "group" if has_group else SAMPLE_ID
        for choices in (read_roles(folder), given):
            chosen |= {role: value for role, value in choices.items() if value is not None}
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
        for columns, role in (
            (self.label, "label column"),
            ([self.group], "group column"),
            (self.numeric, "numeric covariate"),
            (self.categorical, "categorical covariate"),
        ):
            require_columns(table, columns, where, role)
        for column in self.label:
            if column in (self.group, SAMPLE_ID):
                raise CohortError(
                    f"column {column!r} cannot be the label and the group or sample_id too"
                )
        role_of = {SAMPLE_ID: "sample_id", self.group: "group"} | dict.fromkeys(self.label, "label")
        covariates = [*self.numeric, *self.categorical]
        for column in covariates:
            if column in role_of:
                raise CohortError(
                    f"{column!r} is the {role_of[column]} column, it cannot be a covariate: "
                    "the model would learn the answer from it"
                )
            if covariates.count(column) > 1:
                raise CohortError(f"covariate {column!r} is listed more than once")


def _columns(label: Any) -> list[str]:
    columns = [label] if isinstance(label, str) else list(label)
    if not columns or not all(isinstance(column, str) for column in columns):
        raise CohortError(f"label is {label!r}; a column's name, or a list of them, was expected")
    twice = [column for column in columns if columns.count(column) > 1]
    if twice:
        raise CohortError(f"label column {twice[0]!r} is listed more than once")
    return columns


def _read_section(path: Path, name: str) -> Any:
    """A section of cohort.yaml; None where there is none."""
    if not path.is_file():
        return None
    problem = f"{path} cannot be read as YAML"
    with refused(problem, OSError, UnicodeDecodeError, yaml.YAMLError):
        content = read_cohort_yaml(path)
    return content.get(name) if isinstance(content, dict) else content


def read_roles(folder: Path) -> dict[str, Any]:
    """`roles` of a cohort's cohort.yaml; empty where there are none."""
    path, known = folder / ROLES_FILE, [role.name for role in fields(Roles)]
    roles = _read_section(path, "roles")
    if roles is None:
        return {}
    if not isinstance(roles, dict):
        raise CohortError(f"{path}: 'roles' with group, label, numeric, categorical was expected")
    for role in roles:
        if role not in known:
            raise CohortError(f"{path}: unknown role {role!r}{nearest(role, known)}")
    return roles


def read_units(folder: str | Path) -> dict[str, str]:
    """`units` of a cohort's cohort.yaml: of `axis`, `spectra` and covariates, only ever shown."""
    units = _read_section(Path(folder) / ROLES_FILE, "units")
    if not isinstance(units, dict):
        return {}
    return {str(name): str(unit) for name, unit in units.items() if unit is not None}
