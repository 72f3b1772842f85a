"""Which of an imported cohort's columns mean what, checked before anything is read for long."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd

from datasets.cohort import SAMPLE_ID, as_numbers
from datasets.errors import CohortError, nearest
from datasets.importing.covariate_join import CovariateTable

LABEL, GROUP = "label", "group"


@dataclass(frozen=True)
class ImportRoles:
    """The columns that the caller names; None takes the column of the role's name, if there is one.

    Attributes:
        label: Column of the labels.
        group: Column of what a split keeps together; without one each sample is a group.
        numeric: Columns of numeric covariates.
        categorical: Columns of categorical covariates.
    """

    label: str | None = None
    group: str | None = None
    numeric: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()

    def decisive(self) -> list[str]:
        """Columns in which a sample's scans must agree."""
        return [self.label or LABEL, self.group or GROUP]

    def check(self, columns: Collection[str], table: CovariateTable | None) -> None:
        """Check that the columns are there, have one role each, and hold numbers where they must.

        Args:
            columns: What the raw files say of a sample.
            table: The table of covariates.

        Raises:
            CohortError: Names the column that cannot have its role.
        """
        known = [*columns, *(table.columns if table else ())]
        given = [
            *(
                (name, role)
                for role, name in (("label", self.label), ("group", self.group))
                if name
            ),
            *((name, "numeric") for name in self.numeric),
            *((name, "categorical") for name in self.categorical),
        ]
        for name, role in given:
            if name not in known:
                raise CohortError(f"no column {name!r} for the role {role}{nearest(name, known)}")
        names = [name for name, _ in given] + [SAMPLE_ID]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise CohortError(f"column {twice[0]!r} has two roles; one was expected")
        if table:
            samples = list(table.rows)
            for name in self.numeric:
                if name in table.columns:
                    cells = pd.Series([row[name] for row in table.rows.values()], dtype=object)
                    as_numbers(cells, name, samples)

    def check_sample(self, sample_id: str, columns: Mapping[str, str]) -> None:
        """Check that what a raw file says of a sample are numbers where they must be.

        Raises:
            CohortError: They are not.
        """
        for name in self.numeric:
            if name in columns:
                as_numbers(pd.Series([columns[name]], dtype=object), name, [sample_id])

    def plain(self, columns: Collection[str]) -> dict[str, Any]:
        """The roles as cohort.yaml holds them.

        Args:
            columns: Those of samples.csv.
        """
        label = self.label or (LABEL if LABEL in columns else None)
        return {
            **({"label": label} if label else {}),
            "group": self.group or GROUP,
            "numeric": list(self.numeric),
            "categorical": list(self.categorical),
        }
