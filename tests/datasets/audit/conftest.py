"""A clean simulated cohort, and the same with one fault put into it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from datasets.audit import audit
from datasets.audit.findings import Finding
from datasets.cohort import Cohort
from datasets.simulation import simulate_cohort
from datasets.splits import make_split
from tests.datasets.audit.faulty_cohort import Fault, write_cohort

PATIENTS, POINTS = 200, 256


@pytest.fixture(scope="session")
def clean_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audit") / "clean"
    return simulate_cohort(root, 11, n_samples=PATIENTS, spec_len=POINTS, max_scans=3).root


@pytest.fixture
def make_cohort(clean_root: Path, tmp_path: Path) -> Callable[..., Cohort]:
    """Write and read the cohort with a fault: ``make_cohort(fault, **choices_of_read)``."""

    def make(fault: Fault | None = None, **choices: Any) -> Cohort:
        root = write_cohort(clean_root, tmp_path / "cohort", fault)
        if "label" not in choices:
            choices["labels"] = {"control": 0, "case": 1}
        return Cohort.read(root, **choices)

    return make


@pytest.fixture
def find(make_cohort: Callable[..., Cohort]) -> Callable[..., dict[str, Finding]]:
    """Audit the cohort with a fault and a drawn split; the findings by name."""

    def look(fault: Fault | None = None, **choices: Any) -> dict[str, Finding]:
        cohort = make_cohort(fault, **choices)
        split = make_split(cohort.targets, cohort.groups, seed=1)
        return {found.name: found for found in audit(cohort, split)}

    return look


@pytest.fixture
def grave(find: Callable[..., dict[str, Finding]]) -> Callable[..., dict[str, str]]:
    """The same, without the notes: name -> level."""

    def look(fault: Fault | None = None, **choices: Any) -> dict[str, str]:
        found = find(fault, **choices).values()
        return {one.name: one.level for one in found if one.level != "note"}

    return look
