from __future__ import annotations

import numpy as np
import pytest

from experiments.report.figures.outcomes import outcome_sections, predicted_against_true, residuals
from tests.experiments.report.made_outputs import NAMES, make_outputs


@pytest.fixture
def outputs():
    return make_outputs("regression")


def test_a_point_stands_where_its_sample_was_predicted(outputs):
    points = [t for t in predicted_against_true(outputs, NAMES["regression"]).data if t.text]
    assert len(points) == 2
    for number, trace in enumerate(points):
        np.testing.assert_array_equal(trace.x, outputs.target[:, number])
        np.testing.assert_array_equal(trace.y, outputs.predictions[:, number])
        assert list(trace.text) == outputs.sample_id


def test_the_diagonal_spans_all_points(outputs):
    figure = predicted_against_true(outputs, NAMES["regression"])
    line = next(trace for trace in figure.data if trace.mode == "lines")
    both = np.concatenate([outputs.target[:, 0], outputs.predictions[:, 0]])
    assert list(line.x) == list(line.y) == pytest.approx([both.min(), both.max()])


def test_residuals_are_what_was_predicted_less_what_is_true(outputs):
    scatter, histogram, *_ = residuals(outputs, NAMES["regression"]).data
    missed = (outputs.predictions - outputs.target)[:, 0].numpy()
    np.testing.assert_allclose(scatter.y, missed)
    np.testing.assert_allclose(histogram.y, missed)


def test_predictions_that_are_not_finite_leave_a_figure(outputs):
    outputs.logits.fill_(float("nan"))
    outputs.target.fill_(float("nan"))
    assert predicted_against_true(outputs, NAMES["regression"]).data


@pytest.mark.parametrize("task", sorted(NAMES))
def test_each_task_has_the_figures_that_fit_it(task):
    sections = outcome_sections(make_outputs(task), NAMES[task])
    expected = (
        ["predictions", "residuals"] if task == "regression" else ["ranking", "confusion", "scores"]
    )
    assert [section.name for section in sections] == expected
    assert all(section.figure is not None and section.figure.data for section in sections)
    assert all(section.heading[0].isupper() for section in sections)
