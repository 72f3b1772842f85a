"""The audit as a whole: each fault alone is found, and clean cohorts are left in peace."""

from __future__ import annotations

import numpy as np
import pytest

from datasets.audit import audit
from datasets.cohort import Cohort
from datasets.simulation import simulate_cohort
from datasets.splits import make_split

CLEAN_COHORTS = 20
LABELS = {"control": 0, "case": 1}


def rng():
    return np.random.default_rng(4)


def lose_ages_of_cases(files):
    lost = files.is_case & (rng().random(len(files.samples)) < 0.4)
    files.samples["age"] = files.samples["age"].where(~lost)


def measure_cases_on_early_plates(files):
    early = rng().random(len(files.samples)) < np.where(files.is_case, 0.9, 0.2)
    files.samples["plate"] = np.where(early, "plate01", "plate02")


def recruit_cases_at_one_site(files):
    at_a = rng().random(len(files.samples)) < np.where(files.is_case, 0.9, 0.3)
    others = rng().choice(["B", "C", "D"], len(files.samples))
    files.samples["hospital"] = np.where(at_a, "A", others)


def measure_on_other_days(files):
    day = rng().integers(1, 29, len(files.samples))
    month = np.where(files.is_case, 3, 5)
    files.samples["acq_date"] = [f"2024-{m:02d}-{d:02d}" for m, d in zip(month, day, strict=True)]


def sort_by_label(files):
    files.keep(np.argsort(~files.is_case, kind="stable"))


def measure_controls_between_two_runs_of_cases(files):
    cases, controls = np.flatnonzero(files.is_case), np.flatnonzero(~files.is_case)
    half = len(cases) // 2
    files.keep(np.concatenate([cases[:half], controls, cases[half:]]))


def shift_the_axis_of_cases(files):
    cases = files.is_case_scan
    files.spectra[cases] = np.roll(files.spectra[cases], 1, axis=1)


def double_the_intensity_of_cases(files):
    files.spectra[files.is_case_scan] *= 2


def scan_cases_once(files):
    single = files.is_case_scan & (files.scans["scan"] > 0).to_numpy()
    files.scans = files.scans[~single].reset_index(drop=True)
    files.spectra = files.spectra[~single]


def recruit_men_among_cases(files):
    men = rng().random(len(files.samples)) < np.where(files.is_case, 0.9, 0.4)
    files.samples["sex"] = np.where(men, "M", "F")


def recruit_older_cases(files):
    files.samples["age"] += 15 * files.is_case


def write_the_label_as_a_number(files):
    files.samples["BMI"] = np.where(files.is_case, 30.0, 20.0) + rng().random(len(files.samples))


def write_the_label_as_a_category(files):
    files.samples["sex"] = np.where(files.is_case, "stage I", "none")


def copy_scans_to_others(files):
    files.spectra[-40:] = files.spectra[:40]


def copy_scans_with_gain_and_offset(files):
    files.spectra[-40:] = 1.7 * files.spectra[:40] + 30


def copy_scans_with_noise(files):
    noise = 0.01 * files.spectra[:40].std(axis=1, keepdims=True)
    files.spectra[-40:] = files.spectra[:40] + noise * rng().standard_normal((40, 256))


def forget_who_is_the_patient(files):
    # Each patient has two samples, and each of these has become a group of its own.
    files.samples["patient_id"] = [f"p{number // 2:03d}" for number in range(len(files.samples))]


def blank_some_scans(files):
    files.spectra[:3] = 0


def stretch_the_spectra(files):
    files.spectra = np.repeat(files.spectra[:, ::2], 2, axis=1)


def crowd_the_axis(files):
    files.axis[100] = files.axis[99] + 0.01


FAULTS = {
    "missing values": (lose_ages_of_cases, {"missingness:age": "warn"}),
    "plates": (measure_cases_on_early_plates, {"batch:plate": "warn"}),
    "sites": (recruit_cases_at_one_site, {"batch:hospital": "warn"}),
    "dates": (measure_on_other_days, {"batch:acq_date": "warn"}),
    "sorted file": (sort_by_label, {"order": "warn"}),
    "runs in the file": (measure_controls_between_two_runs_of_cases, {"order": "warn"}),
    "axis shift": (shift_the_axis_of_cases, {"axis_shift": "warn"}),
    "intensity": (double_the_intensity_of_cases, {"intensity": "warn"}),
    "number of scans": (scan_cases_once, {"scan_count": "warn"}),
    "sex": (recruit_men_among_cases, {"confounding:sex": "warn"}),
    "age": (recruit_older_cases, {"confounding:age": "warn"}),
    "label as a number": (write_the_label_as_a_number, {"label_leakage:BMI": "refuse"}),
    "label as a category": (write_the_label_as_a_category, {"label_leakage:sex": "refuse"}),
    "patients in several groups": (forget_who_is_the_patient, {"groups:patient_id": "refuse"}),
    "blank scans": (blank_some_scans, {"scans:blank": "warn"}),
    "stretched spectra": (stretch_the_spectra, {"axis:copies": "warn"}),
    "crowded axis": (crowd_the_axis, {"axis:crowded": "warn"}),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_alone_is_found_and_nothing_else(grave, fault):
    put, expected = FAULTS[fault]
    assert grave(put) == expected


@pytest.mark.parametrize("fault", [copy_scans_to_others, copy_scans_with_gain_and_offset])
def test_identical_scans_are_found_but_for_gain_and_offset(grave, fault):
    found = grave(fault)
    assert found["duplicates:sides"] == "refuse"
    assert found.keys() <= {"duplicates:sides", "duplicates:labels", "duplicates:groups"}


def test_nearly_identical_scans_are_found(grave):
    found = grave(copy_scans_with_noise)
    assert found["near_duplicates:sides"] == "warn"
    assert all(name.startswith("near_duplicates:") for name in found)


@pytest.mark.slow
def test_clean_cohorts_are_left_in_peace(tmp_path):
    warnings = []
    for seed in range(CLEAN_COHORTS):
        root = tmp_path / str(seed)
        simulate_cohort(root, 100 + seed, n_samples=200, spec_len=128, max_scans=3)
        cohort = Cohort.read(root, labels=LABELS)
        split = make_split(cohort.targets, cohort.groups, seed=seed)
        warnings += [f"{found}" for found in audit(cohort, split) if found.level != "note"]
    assert len(warnings) <= 1, warnings


def test_true_markers_are_noted_not_warned_of(find):
    found = find()
    assert {"marker:GGT", "marker:albumin"} <= found.keys()
    assert {one.level for one in found.values()} == {"note"}


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_other_tasks_are_asked_too(grave, task):
    def put(files):
        case = files.is_case
        files.samples["stage"] = np.where(case, rng().choice(["I", "II"], len(case)), "none")
        files.samples["first"], files.samples["second"] = (
            case.astype(int),
            rng().permutation(case) * 1,
        )
        files.samples["score"] = case + rng().standard_normal(len(case)) / 4
        lose_ages_of_cases(files)

    label = {"multiclass": "stage", "multilabel": ["first", "second"], "regression": "score"}[task]
    assert grave(put, task=task, label=label) == {"missingness:age": "warn"}


def test_findings_stand_in_order_of_their_gravity(make_cohort):
    def put(files):
        write_the_label_as_a_number(files)
        lose_ages_of_cases(files)

    levels = [found.level for found in audit(make_cohort(put))]
    assert levels == sorted(levels, key=["refuse", "warn", "note"].index)
    assert len(set(levels)) == 3


def test_a_limit_of_scans_is_kept_and_said(make_cohort):
    found = {one.name: one for one in audit(make_cohort(), max_scans=100)}
    assert 90 <= found["sampled"].number <= 100
    assert "sampled" not in {one.name for one in audit(make_cohort())}


def test_the_same_cohort_gives_the_same_findings(make_cohort):
    assert audit(make_cohort(copy_scans_with_noise)) == audit(make_cohort(copy_scans_with_noise))


def read_hcc(real_data, labels):
    return Cohort.read(
        real_data / "hcc_serum_glycome_maldi",
        labels=labels,
        numeric=["age", "AST", "ALT", "GGT", "ALB", "TBIL", "TP", "AFP"],
        categorical=["sex"],
    )


@pytest.mark.parametrize(
    "labels", [{"HCC": 1, "HC": 0}, {"HCC": 1, "HC": 0, "LC": 0, "CHB": 0}], ids=["HC", "all"]
)
def test_hcc_is_predicted_by_missing_albumin_and_by_sex(real_data, labels):
    found = {one.name: one for one in audit(read_hcc(real_data, labels))}
    assert found["missingness:ALB"].level == "warn"
    assert found["missingness:ALB"].number > 0.6
    assert found["confounding:sex"].level == "warn"
    assert "refuse" not in {one.level for one in found.values()}


def test_hcc_has_patients_on_several_plates_and_no_missingness_finding(real_data):
    found = audit(read_hcc(real_data, {"HCC": 1, "LC": 0, "CHB": 0}))
    grave = [one.name for one in found if one.level != "note"]
    assert grave == ["groups:covariates", "confounding:sex"]


def test_four_species_and_replicates_of_patients_raise_no_alarm(real_data):
    for name in ("species_maldi", "fiedler2009_subset_maldi"):
        assert [one for one in audit(Cohort.read(real_data / name)) if one.level != "note"] == []
