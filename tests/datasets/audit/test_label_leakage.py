from __future__ import annotations

import numpy as np
import pytest


def test_slips_of_the_pen_do_not_hide_the_label(find):
    def put(files):
        files.samples["sex"] = np.where(files.is_case, "M", "F")
        files.samples.loc[3, "sex"] = "F" if files.is_case[3] else "M"

    assert find(put)["label_leakage:sex"].level == "refuse"


def test_a_marker_that_is_very_good_is_no_disguise(find):
    def put(files):
        rng = np.random.default_rng(0)
        files.samples["CRP"] = 2.5 * files.is_case + rng.standard_normal(len(files.samples))

    found = find(put)
    assert "label_leakage:CRP" not in found
    assert found["marker:CRP"].level == "note"
    assert found["marker:CRP"].number > 0.9


def test_only_covariates_are_asked(find):
    def put(files):
        files.samples["outcome"] = np.where(files.is_case, "ill", "well")

    found = find(put)
    assert "label_leakage:outcome" not in found
    assert found["column:outcome"].level == "note"


def test_one_class_of_several_can_be_in_disguise(find):
    def put(files):
        stage = np.array(["I", "II", "III", "none"])[np.arange(len(files.samples)) % 4]
        files.samples["stage"] = stage
        files.samples["sex"] = np.where(stage == "III", "x", "y")

    found = find(put, label="stage")["label_leakage:sex"]
    assert "III against the rest" in found.sentence


def test_a_value_to_regress_that_is_given_is_refused_and_a_predictor_of_it_is_not(find):
    def put(files):
        files.samples["days"] = 365.25 * files.samples["age"]
        # Far apart at the median, but in no order on either side of it.
        rng = np.random.default_rng(0)
        upper = files.samples["age"] > files.samples["age"].median()
        files.samples["CRP"] = 9 * upper + rng.random(len(files.samples))

    found = find(put, label="days", task="regression")
    assert found["label_leakage:age"].level == "refuse"
    assert "label_leakage:CRP" not in found


@pytest.mark.parametrize("label", ["first", "second"])
def test_each_label_of_several_can_be_in_disguise(find, label):
    def put(files):
        rng = np.random.default_rng(0)
        for name in ("first", "second"):
            files.samples[name] = rng.integers(0, 2, len(files.samples))
        files.samples["sex"] = np.where(files.samples[label] == 1, "M", "F")

    found = find(put, label=["first", "second"], task="multilabel")
    assert f"label {label}" in found["label_leakage:sex"].sentence
