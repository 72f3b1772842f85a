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


def test_categories_of_three_are_told_by_the_one_that_differs_most(find):
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
