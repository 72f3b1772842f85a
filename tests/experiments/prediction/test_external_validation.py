"""Figures of a labelled cohort: thresholds carried over, prevalence, benefit, subgroups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.errors import UsageError
from engine.metrics import metric_value
from engine.statistics import OperatingPoint, figures_at
from experiments.prediction import validate
from experiments.prediction.external_validation import (
    IN_THE_LARGE,
    SLOPE,
    figures_at_threshold,
    metrics_of,
    subgroup_members,
)
from tests.experiments.report.made_outputs import NAMES, make_outputs

RESAMPLES = 60


def point(threshold):
    return OperatingPoint("youden", None, threshold, {}, {})


def validated(task, samples=120, **settings):
    outputs = make_outputs(task, samples)
    groups = [f"g{n // 2}" for n in range(samples)]
    points = {name: point(0.4) for name in NAMES[task]}
    return validate(outputs, groups, NAMES[task], points, resamples=RESAMPLES, **settings)


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel", "regression"])
def test_the_metrics_are_those_of_the_outputs(task):
    found = validated(task)
    outputs = found.outputs
    assert list(found.metrics) == metrics_of(outputs)
    for name, figure in found.metrics.items():
        assert figure.value == pytest.approx(metric_value(name, outputs), nan_ok=True)
        assert figure.low < figure.high


@pytest.mark.parametrize(
    ("task", "of"),
    [
        ("binary", ["case"]),
        ("multiclass", NAMES["multiclass"]),
        ("multilabel", NAMES["multilabel"]),
    ],
)
def test_each_class_has_its_point_curve_and_calibration(task, of):
    found = validated(task)
    assert [carried.name for carried in found.points] == of
    assert [curve.name for curve in found.curves] == of
    assert list(found.calibration) == of
    for figures in found.calibration.values():
        assert figures[SLOPE].low < figures[SLOPE].value < figures[SLOPE].high


def test_a_regression_has_calibration_in_its_unit_and_no_threshold():
    found = validated("regression")
    assert not found.points
    assert not found.curves
    shifted = replace(found.outputs, logits=found.outputs.logits - 3)
    again = validate(shifted, found.groups, found.names, {}, resamples=RESAMPLES)
    assert again.calibration["age"][IN_THE_LARGE].value == pytest.approx(
        found.calibration["age"][IN_THE_LARGE].value + 3, abs=1e-5
    )
    assert found.calibration["age"][SLOPE].value == pytest.approx(1, abs=0.1)


def test_the_threshold_of_training_decides():
    found = validated("binary")
    (carried,) = found.points
    scores = found.outputs.probabilities[:, 1].numpy()
    positive = found.outputs.target.numpy() == 1
    expected = figures_at(scores, positive, 0.4)
    assert carried.figures["sensitivity"].value == pytest.approx(expected["sensitivity"])
    assert carried.figures["specificity"].value == pytest.approx(expected["specificity"])
    assert carried.figures["ppv"].value == pytest.approx(expected["precision"])
    assert carried.figures["npv"].value == pytest.approx(expected["npv"])
    assert carried.prevalence == positive.mean()


def test_predictive_values_follow_from_the_prevalence():
    positive = np.repeat([True, False], 100)
    predicted = np.concatenate([np.arange(100) < 80, np.arange(100) < 10])
    groups = [str(n) for n in range(200)]
    figures = figures_at_threshold(predicted, positive, groups, 0.02, RESAMPLES)
    assert figures["sensitivity"].value == pytest.approx(0.8)
    assert figures["specificity"].value == pytest.approx(0.9)
    assert figures["ppv"].value == pytest.approx(0.02 * 0.8 / (0.02 * 0.8 + 0.98 * 0.1))
    assert figures["npv"].value == pytest.approx(0.98 * 0.9 / (0.98 * 0.9 + 0.02 * 0.2))
    assert figures["ppv"].low < figures["ppv"].value < figures["ppv"].high
    own = figures_at_threshold(predicted, positive, groups, 0.5, RESAMPLES)
    assert own["ppv"].value == pytest.approx(
        figures_at_threshold(predicted, positive, groups, None, RESAMPLES)["ppv"].value
    )


def test_few_groups_of_a_class_have_no_bootstrap_interval():
    positive = np.arange(100) < 4
    predicted = np.arange(100) % 2 == 0
    figures = figures_at_threshold(
        predicted, positive, [str(n) for n in range(100)], 0.1, RESAMPLES
    )
    assert figures["ppv"].too_few
    assert figures["sensitivity"].method == "clopper_pearson"


def test_net_benefit_is_true_positives_less_weighted_false_ones():
    found = validated("binary")
    (curve,) = found.curves
    scores = found.outputs.probabilities[:, 1].numpy()
    positive = found.outputs.target.numpy() == 1
    place = int(np.argmin(np.abs(curve.thresholds - 0.3)))
    at = curve.thresholds[place]
    said = scores >= at
    expected = (said & positive).mean() - (said & ~positive).mean() * at / (1 - at)
    assert curve.model[place] == pytest.approx(expected)
    assert curve.treat_all[place] == pytest.approx(
        positive.mean() - (~positive).mean() * at / (1 - at)
    )


def test_at_a_lower_prevalence_treating_all_is_worth_less():
    usual, rare = (validated("binary", prevalence=share).curves[0] for share in (None, 0.05))
    assert (rare.treat_all < usual.treat_all).all()


@pytest.mark.parametrize("share", [0, 1, -0.1])
def test_a_prevalence_out_of_range_is_refused(share):
    with pytest.raises(UsageError, match="prevalence: a number above 0 and below 1"):
        validated("binary", prevalence=share)


def test_a_prevalence_of_more_than_two_classes_is_refused():
    with pytest.raises(UsageError, match="of two classes, this model's task is multiclass"):
        validated("multiclass", prevalence=0.1)


def test_subgroups_are_values_of_columns_and_bands_of_age():
    table = pd.DataFrame(
        {
            "site": ["a", "b", None, "a"],
            "sex": ["f", "f", "f", "f"],
            "age": [3.0, 45.0, np.nan, 80.0],
            "AFP": [1.0, 2.0, 3.0, 4.0],
            "patient": ["p1", "p2", "p3", "p4"],
        }
    )
    found = {(c, v): m.tolist() for c, v, m in subgroup_members(table.drop(columns="patient"))}
    assert found == {
        ("site", "(missing)"): [False, False, True, False],
        ("site", "a"): [True, False, False, True],
        ("site", "b"): [False, True, False, False],
        ("age", "0 to under 20"): [True, False, False, False],
        ("age", "40 to under 60"): [False, True, False, False],
        ("age", "80 and over"): [False, False, False, True],
        ("age", "(missing)"): [False, False, True, False],
    }
    many = pd.DataFrame({"patient": [str(n) for n in range(20)]})
    assert not list(subgroup_members(many))


def test_a_subgroup_has_its_own_figures_and_a_small_one_says_so():
    site = np.array(["large"] * 100 + ["small"] * 20, dtype=object)
    found = validated("binary", table=pd.DataFrame({"site": site}))
    large, small = found.subgroups
    assert (large.value, large.samples, large.groups, large.few) == ("large", 100, 50, False)
    assert (small.value, small.samples, small.groups, small.few) == ("small", 20, 10, False)
    rows = list(range(100))
    assert large.figures["auroc"].value == pytest.approx(
        metric_value("auroc", found.outputs.take(rows))
    )
    scores = found.outputs.probabilities[:100, 1].numpy()
    positive = found.outputs.target[:100].numpy() == 1
    expected = figures_at(scores, positive, 0.4)
    assert large.figures["sensitivity"].value == pytest.approx(expected["sensitivity"])
    assert large.figures["predicted"].value == pytest.approx(scores.mean())
    assert large.figures["observed"].value == pytest.approx(positive.mean())
    site[105:] = "other"
    tiny = validated("binary", table=pd.DataFrame({"site": site})).subgroups[2]
    assert (tiny.value, tiny.few) == ("small", True)


def test_of_one_class_only_the_rest_is_undefined_and_not_wrong():
    outputs = make_outputs("binary", 40)
    outputs = replace(outputs, target=torch.zeros(40, dtype=torch.long))
    points = {"case": point(0.5)}
    found = validate(outputs, outputs.sample_id, NAMES["binary"], points, resamples=RESAMPLES)
    assert np.isnan(found.metrics["auroc"].value)
    assert np.isnan(found.calibration["case"][SLOPE].value)
    assert np.isnan(found.points[0].figures["sensitivity"].value)
    assert found.points[0].figures["specificity"].value == pytest.approx(
        float((outputs.probabilities[:, 1] < 0.5).double().mean())
    )
    assert not found.curves
