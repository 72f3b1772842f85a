"""Prediction sets hold the truth as often as asked, in each class and in new groups."""

from __future__ import annotations

import sys

import numpy as np
import pytest
import torch

from datasets.errors import UsageError
from engine.metrics import EpochOutputs
from experiments.prediction import calibrate_sets, fewest_groups

COHORTS, COVERAGE, MARGIN = 20, 0.9, 0.03


def outputs_of(probabilities, target, task=""):
    scores = torch.from_numpy(np.asarray(probabilities))
    logits = scores.log() if task in ("", "binary", "multiclass") else scores
    names = [str(number) for number in range(len(scores))]
    return EpochOutputs(logits, torch.from_numpy(np.asarray(target)), names, {}, task)


def test_one_patient_of_many_samples_does_not_rule():
    """Its samples, badly predicted, would be most of the scores."""
    probabilities = np.full((320, 2), 0.5)
    probabilities[:20] = [0.9, 0.1]
    probabilities[20:] = [0.1, 0.9]
    groups = [f"p{n}" for n in range(20)] + ["many"] * 300
    sets = calibrate_sets(outputs_of(probabilities, np.zeros(320, int)), groups, ["a", "b"])
    assert sets.limits[0].groups == 21
    assert sets.limits[0].value == pytest.approx(0.1)


def test_intervals_hold_a_regressions_values():
    rng = np.random.default_rng(0)
    found = []
    for _ in range(COHORTS):
        patients = np.repeat(np.arange(80), 3)
        error = rng.normal(size=80)[patients] + 0.3 * rng.standard_t(3, size=240)
        predicted = rng.normal(size=240)
        half = patients < 40
        values = [torch.from_numpy(of[:, None]) for of in (predicted, predicted + error)]
        own = EpochOutputs(
            values[0][half], values[1][half], [str(n) for n in range(120)], {}, "regression"
        )
        sets = calibrate_sets(own, patients[half].astype(str).tolist(), ["age"], COVERAGE)
        covered = sets.covered(values[0][~half].numpy(), values[1][~half].numpy())
        found.append(covered.mean())
    assert np.mean(found) == pytest.approx(COVERAGE, abs=MARGIN)
    columns = sets.columns(np.array([[1.0]]))
    reach = sets.limits[0].value
    assert columns["lower_age"] == pytest.approx([1 - reach])
    assert columns["upper_age"] == pytest.approx([1 + reach])


def test_a_label_has_a_set_of_its_two_states():
    scores = np.stack([np.linspace(0, 1, 40), np.linspace(1, 0, 40)], axis=1)
    target = (scores > 0.5).astype(float)
    outputs = EpochOutputs(
        torch.logit(torch.from_numpy(scores), 1e-6),
        torch.from_numpy(target),
        [str(n) for n in range(40)],
        {},
        "multilabel",
    )
    sets = calibrate_sets(outputs, outputs.sample_id, ["x", "y"])
    columns = sets.columns(np.array([[0.99, 0.01], [0.5, 0.5]]))
    assert list(columns) == ["prediction_set_x", "prediction_set_y"]
    assert columns["prediction_set_x"].tolist() == ["1", ""]
    assert columns["prediction_set_y"].tolist() == ["0", ""]
    assert sets.covered(scores, target).mean(axis=0) == pytest.approx([0.9, 0.9], abs=0.06)


def alike(count, of_second, **settings):
    """Sets by samples that are all predicted alike, each a group; so many of each class."""
    probabilities = np.tile([0.7, 0.3], (count + of_second, 1))
    target = np.repeat([0, 1], [count, of_second])
    groups = [str(n) for n in range(count + of_second)]
    names = settings.pop("names", ["a", "b"])
    return calibrate_sets(outputs_of(probabilities, target), groups, names, **settings)


def test_a_class_of_too_few_groups_is_in_every_set():
    sets = alike(30, 8)
    assert sets.columns(np.array([[0.99, 0.01]]))["prediction_set"].tolist() == ["a|b"]
    (note,) = sets.notes
    assert "'b' is in every set: it is calibrated with 8 groups" in note
    assert "coverage 0.9 needs 9" in note
    assert not alike(30, 9).notes


def test_too_few_groups_of_each_class_are_refused():
    with pytest.raises(UsageError, match=r"needs 9 groups of a class .* there are 8 of a, 3 of b"):
        alike(8, 3)
    assert alike(8, 3, coverage=0.7)


@pytest.mark.parametrize(("coverage", "groups"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_just_enough_groups_give_a_finite_limit(coverage, groups):
    assert fewest_groups(coverage) == groups
    sets = alike(groups, groups, coverage=coverage)
    assert np.isfinite([limit.value for limit in sets.limits]).all()


@pytest.mark.parametrize("coverage", [0, 1, 1.5])
def test_a_coverage_out_of_range_is_refused(coverage):
    with pytest.raises(UsageError, match="coverage: a number above 0 and below 1"):
        alike(30, 30, coverage=coverage)


def test_a_name_that_could_be_two_is_refused():
    with pytest.raises(UsageError, match="which 'a\\|b' has in it"):
        alike(30, 30, names=["a|b", "c"])


def test_without_crepes_one_line_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "crepes", None)
    with pytest.raises(UsageError, match=r"pip install 'scanfire\[conformal\]'"):
        alike(30, 30)
