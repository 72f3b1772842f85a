from __future__ import annotations

import numpy as np

from datasets.audit.contrasts import make_contrasts


def test_two_classes_are_one_contrast(make_cohort):
    cohort = make_cohort()
    (only,) = make_contrasts(cohort)
    assert (only.name, only.other, only.target) == ("case", "control", "the label")
    assert (only.members == (cohort.targets == 1)).all()


def test_more_classes_are_each_against_the_rest(make_cohort):
    def put(files):
        files.samples["stage"] = np.array(["I", "II", "none", "none"])[np.arange(200) % 4]

    found = make_contrasts(make_cohort(put, label="stage"))
    assert [c.target for c in found] == [
        f"the label ({name} against the rest)" for name in ("I", "II", "none")
    ]
    assert [int(c.members.sum()) for c in found] == [50, 50, 100]


def test_each_label_of_several_is_a_contrast(make_cohort):
    def put(files):
        files.samples["liver"], files.samples["heart"] = np.arange(200) % 2, np.arange(200) % 5 == 0
        files.samples["heart"] = files.samples["heart"].astype(int)

    found = make_contrasts(make_cohort(put, label=["liver", "heart"], task="multilabel"))
    assert [(c.name, c.other, int(c.members.sum())) for c in found] == [
        ("liver=1", "liver=0", 100),
        ("heart=1", "heart=0", 40),
    ]


def test_values_are_split_at_their_median(make_cohort):
    found = make_contrasts(make_cohort(label="BMI", task="regression"))
    assert found[0].target == "BMI"
    assert abs(int(found[0].members.sum()) - 100) < 5
