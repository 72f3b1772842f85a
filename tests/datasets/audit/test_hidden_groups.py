"""Hidden subjects are found by covariates, names or spectra; honest cohorts are left alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets.audit import Finding, audit
from datasets.cohort import Cohort
from datasets.simulation import simulate_cohort

LABELS = {"control": 0, "case": 1}
PATIENTS, SAMPLES = 20, 4


@pytest.fixture(scope="module")
def patients(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Twenty patients of up to eight scans."""
    root = tmp_path_factory.mktemp("patients") / "cohort"
    return simulate_cohort_as(root, 5, PATIENTS, 8)


def simulate_cohort_as(root: Path, seed: int, samples: int, scans: int = 3) -> Cohort:
    """A simulated cohort of 256 points, read."""
    simulate_cohort(root, seed, n_samples=samples, spec_len=256, max_scans=scans)
    return Cohort.read(root, labels=LABELS)


def four_samples_each(
    patients: Cohort, root: Path, name: Callable[[int, int], str], covariates: bool
) -> Cohort:
    """A cohort in which each patient has four samples, each a group of its own."""
    rng = np.random.default_rng(0)
    order = rng.permutation(PATIENTS * SAMPLES)
    rows, spectra = [], []
    for place in order:
        patient, number = divmod(int(place), SAMPLES)
        scans = patients.scan_rows[patient]
        scan = np.array(patients.spectra[scans[number % len(scans)]])
        if number >= len(scans):
            scan = scan + rng.normal(0, scan.std() * 0.05, len(scan))
        row = patients.samples.iloc[patient].to_dict()
        rows.append({**row, "sample_id": name(patient, number), "group": name(patient, number)})
        spectra.append(scan)
    table = pd.DataFrame(rows)
    if not covariates:
        table = table[["sample_id", "group", "label"]]
    root.mkdir()
    table.to_csv(root / "samples.csv", index=False)
    pd.DataFrame({"sample_id": table["sample_id"], "scan": 1}).to_csv(
        root / "scans.csv", index=False
    )
    np.save(root / "spectra.npy", np.array(spectra, dtype=np.float32))
    np.save(root / "axis.npy", patients.axis)
    roles = {"numeric": patients.numeric, "categorical": patients.categorical}
    return Cohort.read(root, labels=LABELS, group="group", **(roles if covariates else {}))  # type: ignore[arg-type]


def hidden(found: list[Finding]) -> set[str]:
    """The names of findings on hidden groups."""
    return {f.name for f in found if f.name.startswith("groups:")} - {"groups:few"}


def meaningless(patient: int, number: int) -> str:
    """A name that says nothing of the patient."""
    return f"x{(patient * SAMPLES + number) * 7919 % 10007:05d}"


def test_equal_covariates_within_a_patient_are_warned_of(patients: Cohort, tmp_path: Path) -> None:
    found = audit(four_samples_each(patients, tmp_path / "c", meaningless, covariates=True))
    assert {"groups:covariates", "groups:spectra"} <= hidden(found)
    levels = {f.level for f in found if f.name in ("groups:covariates", "groups:spectra")}
    assert levels == {"warn"}


def test_near_spectra_are_warned_of_without_covariates(patients: Cohort, tmp_path: Path) -> None:
    found = audit(four_samples_each(patients, tmp_path / "c", meaningless, covariates=False))
    assert hidden(found) == {"groups:spectra"}
    (sentence,) = [f.sentence for f in found if f.name == "groups:spectra"]
    assert "a split by subject would give about the latter" in sentence


@pytest.mark.parametrize(
    "name",
    [
        lambda patient, number: f"{number + 1}_P{patient:02d}",
        lambda patient, number: f"P{patient:02d}{'abcd'[number]}",
        lambda patient, number: f"P{patient:02d}-{['base', 'week2', 'week4', 'end'][number]}",
        lambda patient, number: f"{['mon', 'tue', 'wed', 'thu'][number]}.P{patient:02d}",
    ],
    ids=["number_before", "letter_after", "visit_after", "day_before"],
)
def test_stems_in_common_patterns_are_found(
    patients: Cohort, tmp_path: Path, name: Callable[[int, int], str]
) -> None:
    found = audit(four_samples_each(patients, tmp_path / "c", name, covariates=False))
    assert "groups:sample_id" in hidden(found)


def test_grouped_samples_are_not_hidden(patients: Cohort, tmp_path: Path) -> None:
    cohort = four_samples_each(patients, tmp_path / "c", meaningless, covariates=True)
    cohort.groups[:] = cohort.samples["age"].astype(str)
    assert not hidden(audit(cohort)) & {"groups:covariates", "groups:spectra", "groups:sample_id"}


@pytest.mark.parametrize("seed", range(6))
def test_honest_cohorts_are_not_warned_of(tmp_path: Path, seed: int) -> None:
    cohort = simulate_cohort_as(tmp_path / "c", 100 + seed, [40, 60, 80, 100, 120, 160][seed])
    assert hidden(audit(cohort)) == set()


def test_subjects_on_several_plates_are_warned_of(patients: Cohort, tmp_path: Path) -> None:
    cohort = four_samples_each(patients, tmp_path / "c", meaningless, covariates=True)
    cohort.groups[:] = np.array([f"plate{n % 5}" for n in range(len(cohort.groups))])
    assert hidden(audit(cohort)) == {"groups:covariates"}
