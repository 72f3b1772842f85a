from __future__ import annotations

import numpy as np


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
