from __future__ import annotations

import numpy as np
import pytest
from scipy.stats.contingency import association


def more_men_among_cases(files):
    rng = np.random.default_rng(0)
    men = rng.random(len(files.samples)) < np.where(files.is_case, 0.9, 0.4)
    files.samples["sex"] = np.where(men, "M", "F")


def test_it_names_the_shares_and_cramers_v(find, make_cohort):
    found = find(more_men_among_cases)["confounding:sex"]
    cohort = make_cohort(more_men_among_cases)
    men = (cohort.samples["sex"] == "M").to_numpy()
    shares = [men[cohort.targets == kind].mean() for kind in (1, 0)]
    table = [
        [(men & (cohort.targets == k)).sum(), (~men & (cohort.targets == k)).sum()] for k in (0, 1)
    ]
    assert f"M is {shares[0]:.0%} of case and {shares[1]:.0%} of control" in found.sentence
    assert f"Cramer's V {association(np.array(table), method='cramer'):.2f}" in found.sentence
    assert found.number == pytest.approx((1 + shares[0] - shares[1]) / 2)


def test_it_is_told_though_the_model_is_not_given_the_column(find):
    found = find(more_men_among_cases, categorical=[])
    assert found["confounding:sex"].level == "warn"


def test_a_number_that_is_not_about_the_person_may_be_the_marker(find):
    def put(files):
        files.samples["CRP"] *= 1 + 2 * files.is_case

    found = find(put)["marker:CRP"]
    assert found.level == "note"
    assert "its median is" in found.sentence


def test_of_three_categories_the_most_different_is_named(find):
    def put(files):
        rng = np.random.default_rng(0)
        kind = np.where(rng.random(len(files.samples)) < 0.5, "a", "b")
        files.samples["diet"] = np.where(files.is_case & (rng.random(200) < 0.6), "c", kind)

    found = find(put, categorical=["diet"])["confounding:diet"]
    assert found.level == "warn"
    assert "c is" in found.sentence


def test_other_columns_of_many_values_are_not_asked(find):
    def put(files):
        files.samples["survival_days"] = 1000.0 * files.is_case + np.arange(len(files.samples))

    assert "column:survival_days" not in find(put)


def test_slips_of_the_pen_do_not_hide_the_label(find):
    def put(files):
        files.samples["sex"] = np.where(files.is_case, "M", "F")
        files.samples.loc[3, "sex"] = "F" if files.is_case[3] else "M"

    assert find(put)["label_leakage:sex"].level == "refuse"


def test_a_very_good_marker_is_no_label_leakage(find):
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


def test_one_class_of_several_can_leak(find):
    def put(files):
        stage = np.array(["I", "II", "III", "none"])[np.arange(len(files.samples)) % 4]
        files.samples["stage"] = stage
        files.samples["sex"] = np.where(stage == "III", "x", "y")

    found = find(put, label="stage")["label_leakage:sex"]
    assert "III against the rest" in found.sentence


def test_a_copy_of_a_target_is_refused_and_a_predictor_is_not(find):
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
def test_each_label_of_several_can_leak(find, label):
    def put(files):
        rng = np.random.default_rng(0)
        for name in ("first", "second"):
            files.samples[name] = rng.integers(0, 2, len(files.samples))
        files.samples["sex"] = np.where(files.samples[label] == 1, "M", "F")

    found = find(put, label=["first", "second"], task="multilabel")
    assert f"label {label}" in found["label_leakage:sex"].sentence


def lose(column, share_of_cases, share_of_controls):
    def put(files):
        rng = np.random.default_rng(0)
        chance = np.where(files.is_case, share_of_cases, share_of_controls)
        files.samples[column] = files.samples[column].mask(rng.random(len(chance)) < chance)

    return put


def test_it_names_how_often_each_class_lacks_a_value(find):
    found = find(lose("age", 0.5, 0.0))["missingness:age"]
    assert found.level == "warn"
    assert 0.7 < found.number < 0.8
    assert found.interval[0] > 0.6
    assert "% of case and 0% of control" in found.sentence


def test_categories_can_be_missing_too(find):
    assert find(lose("sex", 0.6, 0.1))["missingness:sex"].level == "warn"


def test_equal_shares_are_left_in_peace(find):
    assert "missingness:age" not in find(lose("age", 0.4, 0.4))


def test_a_column_that_the_model_is_not_given_is_noted(find):
    found = find(lose("age", 0.5, 0.0), numeric=["BMI"])["missingness:age"]
    assert found.level == "note"
    assert "the model is not given it" in found.sentence


def test_a_column_without_any_value_tells_nothing(find):
    assert "missingness:age" not in find(lose("age", 1.0, 1.0))
