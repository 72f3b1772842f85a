from __future__ import annotations

import inspect
from dataclasses import replace

import numpy as np
import pytest

from experiments.enhanced_trainer import EnhancedTrainer, Names
from experiments.report.figures import ReportInput
from experiments.report.figures.importance import (
    UNCLEAR,
    covariate_features,
    in_one_sense,
    speaks_for,
    window_features,
    window_name,
)
from tests.experiments.report.made_examined import PEAKS, WEIGHTS, make_examined
from tests.experiments.report.made_outputs import NAMES

WINDOWS = [(38, 43), (8, 13)]


def found_in(examined):
    return in_one_sense(examined.findings.explained[0], examined)


def said_of(feature, examined):
    return speaks_for(feature.direction, examined.outputs.task, examined.classes)[0]


def test_binary_attributions_are_of_the_positive_class():
    examined = make_examined("binary")
    assert set(examined.findings.explained[0].target.tolist()) == {0, 1}
    found = found_in(examined)
    expected = examined.inputs.covariates * np.array(WEIGHTS)
    np.testing.assert_allclose(found.covariates, expected, rtol=1e-5, atol=1e-7)
    assert found.what == "the log-odds of case"
    np.testing.assert_allclose(
        found.change, found.points.sum(axis=1) + found.covariates.sum(axis=1), rtol=1e-4
    )


def test_attributions_of_a_single_logit_keep_their_sign():
    examined = make_examined("binary")
    explained = replace(examined.findings.explained[0], score="logit")
    found = in_one_sense(explained, examined)
    np.testing.assert_allclose(found.covariates, explained.tabular, rtol=1e-6)
    assert found.what == "the logit of each sample's most likely class"


def test_values_are_explained_in_their_own_unit():
    plain, scaled = (found_in(make_examined("regression", scale=s)) for s in (None, [10.0, 3.0]))
    np.testing.assert_allclose(scaled.points, 10 * plain.points)
    np.testing.assert_allclose(scaled.covariates, 10 * plain.covariates)


def test_shares_of_all_points_and_covariates_add_up_to_one():
    examined = make_examined()
    found = found_in(examined)
    windows = window_features(found, examined, [(0, 20), (20, 60)])
    features = [*windows, *covariate_features(found, examined)]
    assert sum(feature.share for feature in features) == pytest.approx(1, abs=1e-5)


def test_what_adds_up_to_nothing_has_no_share():
    examined = make_examined()
    found = in_one_sense(replace(examined.findings.explained[0], change=None), examined)
    assert np.isnan(covariate_features(found, examined)[0].share)


@pytest.mark.parametrize(
    ("task", "what"),
    [
        ("multiclass", "the log-odds of each sample's most likely class"),
        ("multilabel", "the logit of liver"),
        ("regression", "the prediction of age"),
    ],
)
def test_the_explained_score_is_said(task, what):
    assert found_in(make_examined(task)).what == what


@pytest.mark.parametrize(
    ("task", "up", "down"),
    [("binary", "for case", "for control"), ("regression", "raises age", "lowers age")],
)
def test_windows_speak_for_what_their_weights_do(task, up, down):
    examined = make_examined(task)
    first, second = window_features(found_in(examined), examined, WINDOWS)
    assert (first.name, second.name) == ("m/z 2080 to 2120", "m/z 2380 to 2420")
    assert first.size / second.size == pytest.approx(PEAKS[10] / -PEAKS[40], rel=0.5)
    # A window's mean intensity is mostly that of its other points, so the direction is weaker.
    assert said_of(first, examined) == up
    assert said_of(second, examined) == down


def test_of_several_classes_one_speaks_for_and_another_against():
    examined = make_examined("multiclass")
    age, sex = sorted(
        covariate_features(found_in(examined), examined)[:2], key=lambda one: one.name
    )
    assert said_of(age, examined).removeprefix("for ") in NAMES["multiclass"]
    assert said_of(sex, examined).removeprefix("against ") in NAMES["multiclass"]


def test_covariates_are_sorted_by_what_they_say():
    examined = make_examined()
    features = covariate_features(found_in(examined), examined)
    assert [feature.name for feature in features] == ["sex=m", "age", "<b>CRP</b>"]
    assert said_of(features[-1], examined) == UNCLEAR


def test_features_of_one_name_are_one_covariate():
    apart = make_examined(covariates=["age", "sex=m", "CRP"])
    age, sex, _ = sorted(covariate_features(found_in(apart), apart), key=lambda f: f.name != "age")
    together = make_examined(covariates=["age", "age", "CRP"])
    found = found_in(together)
    features = {feature.name: feature for feature in covariate_features(found, together)}
    assert features.keys() == {"age", "CRP"}
    np.testing.assert_allclose(features["age"].attributions, age.attributions + sex.attributions)
    np.testing.assert_allclose(features["age"].values, (age.values + sex.values) / 2, rtol=1e-6)
    assert features["age"].share == pytest.approx(age.share + sex.share)
    size = np.abs(found.covariates[:, :2].sum(axis=1)).mean()
    assert features["age"].size == pytest.approx(size)


def test_without_names_and_axis_their_numbers_are_shown():
    examined = make_examined(covariates=None, axis=None)
    assert covariate_features(found_in(examined), examined)[0].name == "covariate 1"
    assert window_name(examined, 8, 13) == "points 8 to 12"
    assert window_name(examined, 8, 9) == "point 8"


def test_a_fine_axis_is_named_with_the_digits_it_takes():
    examined = make_examined(axis=np.linspace(1.0, 2.0, 60), axis_name="ppm")
    assert window_name(examined, 0, 2) == "ppm 1.00 to 1.02"
    assert window_name(examined, 1, 2) == "ppm 1.02"


def test_an_axis_without_a_unit_is_called_axis():
    examined = make_examined()
    unnamed = ReportInput(examined.outputs, examined.classes, examined.findings, axis=examined.axis)
    assert window_name(unnamed, 0, 2) == "axis 2000 to 2010"
    assert Names().axis_name == "axis"
    assert inspect.signature(EnhancedTrainer).parameters["axis_name"].default == "axis"
