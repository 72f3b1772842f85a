"""Every finding of the audit, each of which may stand on the page, is said in Chinese too."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.audit import CHECKS, OF_SCANS, AuditContext, audit
from datasets.cohort import SPECTRAL_FILES, Cohort
from datasets.messages import Message
from datasets.simulation import simulate_cohort
from datasets.splits import make_split
from tests.datasets.audit.faulty_cohort import Fault, Files, write_cohort
from tests.datasets.audit.test_audit import FAULTS, copy_scans_with_noise, sort_by_label
from tests.experiments.report.said_in_chinese import english_left
from tests.made_once import made_once

pytestmark = pytest.mark.slow

LABELS = {"control": 0, "case": 1}
SAMPLES = 200
FOUND = "found.pickle"


def add_labels(files: Files) -> None:
    """Labels of every task, whose columns are told by what is missing, by sex and by plates."""
    case, rng = files.is_case, np.random.default_rng(4)
    files.samples["stage"] = np.where(case, rng.choice(["I", "II"], len(case)), "none")
    files.samples["first"], files.samples["second"] = case.astype(int), rng.permutation(case) * 1
    files.samples["score"] = case + rng.standard_normal(len(case)) / 4
    files.samples["age"] = files.samples["age"].where(~(case & (rng.random(len(case)) < 0.4)))
    files.samples["CRP"] *= 1 + 2 * case
    early = rng.random(len(case)) < np.where(case, 0.95, 0.1)
    files.samples["sex"] = np.where(rng.random(len(case)) < np.where(case, 0.9, 0.4), "M", "F")
    files.samples["plate"] = np.where(early, "no", "none and test")
    files.samples["centre"] = np.where(case, "A", rng.choice(["B", "C"], len(case)))
    files.samples["site"] = rng.integers(0, 4, len(case)) + 4 * case
    files.samples["run"] = np.where(case, rng.integers(0, 9, len(case)), 8 + np.arange(len(case)))
    files.samples["diet"] = np.where(early, "low", "high")
    files.samples["income"] = 1000 * case + np.arange(len(case))


def gap_and_crowd(gaps: int) -> Fault:
    def put(files: Files) -> None:
        for number in range(gaps):
            files.axis[120 + 40 * number :] += 4000
            files.axis[20 + 10 * number] = files.axis[19 + 10 * number] + 0.01
        files.spectra[:gaps] = 0

    return put


def share_animals(size: int) -> Fault:
    """So many samples of an animal, each a group of its own."""

    def put(files: Files) -> None:
        number = np.arange(SAMPLES)
        files.samples["animal"] = [f"m{n}" for n in np.where(number < size, 0, number)]

    return put


def copy_scan(of: int, to: int, but_for_the_label: bool = False) -> Fault:
    """Copy a scan to the next sample from `to` on, of the same label or not, on the same side."""

    def put(files: Files) -> None:
        alike = (files.is_case == files.is_case[of]) != but_for_the_label
        other = next(n for n in range(to, SAMPLES) if alike[n] and n % 10)
        first = [np.flatnonzero(files.owner == sample)[0] for sample in (of, other)]
        files.spectra[first[1]] = files.spectra[first[0]]

    return put


def copy_within(files: Files) -> None:
    several = next(n for n in range(SAMPLES) if (files.owner == n).sum() > 1)
    first, second, *_ = np.flatnonzero(files.owner == several)
    files.spectra[second] = files.spectra[first]


def name_like_replicates(files: Files) -> None:
    files.keep(np.argsort(files.is_case, kind="stable"))
    names = [f"P{number // 2:03d}_{number % 2 + 1}" for number in range(SAMPLES)]
    new = dict(zip(files.samples["sample_id"], names, strict=True))
    files.samples["sample_id"] = files.samples["group"] = names
    files.scans["sample_id"] = files.scans["sample_id"].map(new)


def group_by(size: int) -> Fault:
    def put(files: Files) -> None:
        files.samples["bench"] = [f"b{number // size}" for number in range(SAMPLES)]

    return put


def spell_apart(files: Files) -> None:
    files.samples["group"] = [f"{'Gg'[n % 2]}{n // 2}" for n in range(SAMPLES)]
    files.samples["plate"] = ["A1", "a1", "B", "C"] * (SAMPLES // 4)


def shift_left(files: Files) -> None:
    cases = files.is_case_scan
    files.spectra[cases] = np.roll(files.spectra[cases], -1, axis=1)


EVERY_TENTH = np.where(np.arange(SAMPLES) % 10 == 0, "test", "train")
IN_PAIRS = np.array(["train", "val", "test", "train"])[np.arange(SAMPLES) // 2 % 4]
CASES: list[tuple[Fault, dict[str, Any]]] = [
    *((put, {}) for put, _ in FAULTS.values()),
    (add_labels, {}),
    (add_labels, {"numeric": ["BMI"], "categorical": ["diet"]}),
    (add_labels, {"label": "stage", "task": "multiclass"}),
    (add_labels, {"label": ["first", "second"], "task": "multilabel"}),
    (add_labels, {"label": "score", "task": "regression"}),
    (add_labels, {"without_spectra": True}),
    (shift_left, {}),
    (gap_and_crowd(1), {}),
    (gap_and_crowd(3), {"max_scans": 100}),
    (share_animals(2), {"split": np.repeat("train", SAMPLES)}),
    (share_animals(2), {"split": np.append("test", np.repeat("train", SAMPLES - 1))}),
    (lambda files: files.samples.insert(1, "animal", np.arange(SAMPLES) // 2), {}),
    (
        lambda files: files.samples.insert(1, "animal", np.arange(SAMPLES) // 2),
        {"split": IN_PAIRS},
    ),
    (group_by(4), {"group": "bench", "split": np.repeat(["train", "val", "test"], [150, 26, 24])}),
    (group_by(4), {"group": "bench", "split": EVERY_TENTH}),
    (group_by(SAMPLES), {"group": "bench", "split": np.repeat("train", SAMPLES)}),
    (group_by(40), {"group": "bench", "split": np.repeat("train", SAMPLES)}),
    (name_like_replicates, {}),
    (spell_apart, {"split": EVERY_TENTH}),
    (sort_by_label, {"split": np.repeat(["train", "val", "test"], [9, 40, 151])}),
    (copy_scan(of=10, to=11), {"split": EVERY_TENTH}),
    (copy_scan(of=11, to=12), {"split": EVERY_TENTH}),
    (copy_scan(of=11, to=12, but_for_the_label=True), {"split": EVERY_TENTH}),
    (copy_within, {}),
    (copy_scans_with_noise, {}),
    (copy_scans_with_noise, {"split": np.repeat("train", SAMPLES)}),
]
# Of what a check says in several ways each has to occur.
SAID = (
    "1 group of 50 in several splits",
    "groups of 50 in several splits",
    "1 value of animal in several groups, such as m0",
    "1 value of animal in several groups, 1 of them in several splits",
    "values of animal in several groups, such as 0",
    "of them in several splits, such as 0",
    "read like replicates",
    "100 sets of groups that differ by case, blanks, zeros or the form of characters only (",
    "(20 in several splits), 'G0' / 'g0'",
    "1 set of values of plate that differ",
    "1 group: how",
    "5 groups: how",
    "are identical to one in another split",
    "are identical to one in another group and",
    "are identical to one in another group:",
    "are identical to one in the same group",
    "are nearly identical to one in another split",
    "are nearly identical to one in another group and",
    "are nearly identical to one in another group:",
    "1 scan with the same number",
    "3 scans with the same number",
    "leave it out of data.numeric",
    "leave it out of data.categorical",
    "of the rest",
    "label first",
    "score above",
    "; the model is not given it",
    "is confounded with the label: M is",
    "is confounded with the label: its median",
    "as marker or as confounder: its median",
    "spectra may tell it: high is",
    "spectra may give plate away: case is",
    "spectra may give acq_date away",
    "covariates may give plate away: case is",
    "covariates may give site away",
    "the order of the file",
    "the number of scans",
    "the total intensity",
    "points left of",
    "points right of",
    "in the train split",
    "in the val split",
    "in the test split",
    "of the train split, but",
    "of the val split, but",
    "of the test split, but",
    "; there the classes",
    " and more; there the classes",
    "the axis has 1 gap,",
    "the axis has 3 gaps,",
    "1 point of the axis",
    "3 points of the axis",
    "hold in every scan",
)


@dataclass
class Audited:
    """What was found in faulty cohorts.

    Attributes:
        sentences: Finding's sentence -> the names that the page knows.
        silent: Checks that found nothing anywhere.
    """

    sentences: dict[str, set[str]]
    silent: set[str]


def audit_all(cases: list[tuple[Fault, dict[str, Any]]], clean: Path, folder: Path) -> Audited:
    found = Audited({}, {check.__name__ for check in CHECKS})
    for number, (fault, choices) in enumerate(cases):
        split, max_scans, alone = map(choices.get, ("split", "max_scans", "without_spectra"))
        chosen = {k: choices[k] for k in choices.keys() & {"label", "group", "task"}}
        chosen |= {k: choices[k] for k in choices.keys() & {"numeric", "categorical"}}
        root = write_cohort(clean, folder / str(number), fault)
        for name in SPECTRAL_FILES if alone else ():
            (root / name).unlink()
        labels = None if "label" in choices else LABELS
        cohort = Cohort.read(root, labels=labels, **chosen)
        if split is None:
            split = make_split(cohort.targets, cohort.groups, seed=1)
        subject = AuditContext(cohort, split, max_scans)
        for check in CHECKS:
            # The audit below runs them all; alone, each runs until it has found something.
            if check.__name__ in found.silent and (cohort.has_spectra or check not in OF_SCANS):
                found.silent -= {check.__name__} if list(check(subject)) else set()
        names = {str(name) for name in (*cohort.samples.columns, *cohort.class_names)}
        names |= {str(value) for column in cohort.samples for value in cohort.samples[column]}
        names |= {f"{name}={value}" for name in cohort.class_names for value in (0, 1)}
        for one in audit(cohort, split, max_scans):
            found.sentences.setdefault(one.sentence, names)
    return found


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> Audited:
    def make(folder: Path) -> None:
        clean = simulate_cohort(folder / "clean", 11, n_samples=SAMPLES, spec_len=256, max_scans=3)
        found = audit_all(CASES, clean.root, folder)
        (folder / FOUND).write_bytes(pickle.dumps(found))

    folder = made_once(tmp_path_factory, "faulty", make)
    found: Audited = pickle.loads((folder / FOUND).read_bytes())
    return found


def test_every_check_and_each_of_its_sentences_is_looked_at(audited):
    assert audited.silent == set()
    assert [part for part in SAID if not any(part in text for text in audited.sentences)] == []


def test_every_finding_is_said_in_chinese(audited):
    left: dict[str, str] = {}
    for sentence, names in audited.sentences.items():
        accepted = Message("{}.", Message("{} (it was accepted)", sentence))
        left |= english_left([sentence, accepted], names)
    assert left == {}
