from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from datasets.errors import UsageError
from engine.explain.attribution import explain
from engine.explain.attribution_regions import (
    FEWEST_SAMPLES,
    find_direction,
    rank_windows,
    top_windows,
    toward_second,
    window_edges,
    window_sums,
)
from engine.explain.attribution_results import Explained
from models import MeanLinear
from tests.engine.attributed import POINTS, make_batch

SAMPLES = 40


@pytest.fixture
def values() -> torch.Tensor:
    """Values around zero, as a standardised feature has them."""
    torch.manual_seed(0)
    return torch.randn(SAMPLES)


@pytest.mark.parametrize(("weight", "sign"), [(0.3, 1), (-2.0, -1)])
def test_a_linear_feature_speaks_for_what_its_weight_does(values, weight, sign):
    found = find_direction(values, weight * values, torch.ones(SAMPLES).long())
    assert (found.output, found.sign) == (1, sign)


def test_the_direction_of_positive_intensities_is_the_weights(values):
    intensities = values.abs() + 5
    found = find_direction(intensities, -intensities, torch.zeros(SAMPLES).long())
    assert found.sign == -1


def test_the_correlation_is_spearmans(values):
    noisy = values + 2 * torch.randn(SAMPLES)
    found = find_direction(values, noisy, torch.zeros(SAMPLES).long())
    assert found.rank_correlation == pytest.approx(spearmanr(values, noisy).statistic)


def test_the_output_with_the_most_influence_is_named(values):
    target = torch.arange(SAMPLES) % 2
    attributions = torch.where(target == 0, values, -5 * values)
    found = find_direction(values, attributions, target)
    assert (found.output, found.sign, found.samples) == (1, -1, SAMPLES // 2)


def test_a_feature_that_is_the_same_for_all_has_no_direction(values):
    found = find_direction(torch.ones(SAMPLES), values, torch.zeros(SAMPLES).long())
    assert math.isnan(found.rank_correlation)
    assert found.sign == 0


def test_few_samples_have_no_direction(values):
    few = values[: FEWEST_SAMPLES - 1]
    assert find_direction(few, few, torch.zeros(len(few)).long()).sign == 0


def test_attributions_of_two_classes_have_opposite_signs():
    attributions = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    turned = toward_second(attributions, torch.tensor([0, 1]))
    assert turned.tolist() == [[-1.0, 2.0], [3.0, 4.0]]


AXIS = np.linspace(50.0, 150.0, POINTS) ** 2


def made(points, change, target=None):
    """One scan a sample."""
    points = torch.tensor(points)
    count = len(points)
    return Explained(
        "integrated_gradients",
        [f"s{number}" for number in range(count)],
        torch.ones(count).long() if target is None else torch.tensor(target),
        list(points[:, None]),
        torch.zeros(count, 0),
        torch.tensor(change),
        None,
    )


def test_a_relative_window_widens_with_its_place_as_a_peak_does():
    axis = np.arange(100.0, 400.0)
    first, behind = window_edges(axis, 0.02, "relative")
    for place in (100, 200, 300):
        at = place - 100
        assert axis[first[at]] == max(100, place - 0.01 * place)
        assert axis[behind[at] - 1] == place + 0.01 * place


def test_a_window_may_be_measured_in_points_and_on_the_axis():
    axis = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
    first, behind = window_edges(axis, 2, "points")
    assert (behind - first).tolist() == [2, 3, 3, 3, 2]
    first, behind = window_edges(axis, 4, "axis")
    assert (behind - first).tolist() == [2, 3, 2, 1, 1]


def test_window_sums_are_sums():
    values = torch.randn(3, POINTS, dtype=torch.double)
    first, behind = edges = window_edges(AXIS, 0.3, "relative")
    found = window_sums(values, edges)
    for at in (0, 7, POINTS - 1):
        expected = values[:, first[at] : behind[at]].sum(dim=1)
        torch.testing.assert_close(found[:, at], expected)


def test_shares_of_a_tiled_axis_add_up_to_the_whole():
    model, loader = MeanLinear(POINTS), [make_batch(seed) for seed in range(3)]
    found = explain(model, loader)
    edges = window_edges(np.arange(POINTS, dtype=float), 2, "points")
    shares = rank_windows(found, edges, "share")
    assert float(shares[1::3].sum()) == pytest.approx(1.0, abs=1e-5)


def test_contributions_unrelated_to_the_score_have_no_share():
    # The first point decides; the second and the third undo each other, large as they are.
    change = [1.0, -1.0, 1.0, -1.0]
    points = [[c, big, -big] for c, big in zip(change, (5.0, 5.0, -5.0, -5.0), strict=True)]
    found = made(points, change)
    edges = window_edges(np.arange(3.0), 0.5, "axis")
    assert rank_windows(found, edges, "share").tolist() == [1.0, 0.0, 0.0]
    assert rank_windows(found, edges, "magnitude").tolist() == [1.0, 5.0, 5.0]
    assert rank_windows(found, edges, "signed").tolist() == [0.0, 0.0, 0.0]


def test_shares_do_not_depend_on_the_explained_of_two_classes():
    points, change = torch.randn(6, POINTS), torch.randn(6)
    edges = window_edges(AXIS, 0.05, "relative")
    one = rank_windows(made(points.tolist(), change.tolist()), edges)
    turned = torch.tensor([1.0, -1, 1, -1, -1, 1])
    other = made((points * turned[:, None]).tolist(), (change * turned).tolist())
    torch.testing.assert_close(rank_windows(other, edges), one)


def test_top_regions_descend_and_do_not_overlap():
    points = torch.zeros(1, POINTS)
    points[0, 10], points[0, 11], points[0, 30], points[0, 45] = 3.0, 2.0, 4.0, 1.0
    found = top_windows(made(points.tolist(), [10.0]), AXIS, 3, width=0.15)
    assert [window.value for window in found] == pytest.approx([0.5, 0.4, 0.1])
    assert found[0].holds(AXIS[10])
    assert found[0].holds(AXIS[11])
    assert found[1].holds(AXIS[30])
    spans = sorted((window.start, window.stop) for window in found)
    assert all(one[1] <= other[0] for one, other in pairwise(spans))
    assert all(window.low <= window.centre <= window.high for window in found)


def test_fewer_regions_are_returned_if_no_more_fit():
    found = top_windows(made([[1.0, 2.0, 3.0]], [6.0]), np.arange(3.0), 10, width=1.0, unit="axis")
    assert 1 <= len(found) <= 3


def test_a_regions_direction_is_that_of_higher_intensities():
    model = MeanLinear(POINTS)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.weight[1, 10], model.head.weight[1, 30] = 2.0, -1.0
    loader = [make_batch(seed) for seed in range(8)]
    found = explain(model, loader, keep_intensities=True)
    assert set(found.target.tolist()) == {0, 1}  # of each sample the predicted class
    windows = top_windows(found, np.arange(POINTS, dtype=float), 2, width=0.5, unit="axis")
    assert [window.start for window in windows] == [10, 30]
    directions = [window.direction for window in windows if window.direction is not None]
    assert [(direction.output, direction.sign) for direction in directions] == [(1, 1), (1, -1)]
    without = top_windows(replace(found, intensities=None), AXIS, 1)
    assert without[0].direction is None


def test_what_cannot_be_used_is_refused_in_a_line():
    found = made([[1.0, 2.0]], [3.0])
    axis = np.arange(2.0)
    with pytest.raises(UsageError, match="did you mean 'share'"):
        top_windows(found, axis, by="shares")
    with pytest.raises(UsageError, match="add up to nothing"):
        top_windows(replace(found, method="saliency", change=None), axis)
    with pytest.raises(UsageError, match="did you mean 'points'"):
        top_windows(found, axis, unit="point")
    with pytest.raises(UsageError, match="above 0"):
        top_windows(found, axis, width=0)
    with pytest.raises(UsageError, match="must ascend"):
        top_windows(found, axis[::-1])
    with pytest.raises(UsageError, match=r"windows\.count"):
        top_windows(found, axis, 0)


def test_a_falling_attribution_has_a_negative_direction():
    values = torch.arange(10.0)
    found = find_direction(values, -2 * values, torch.ones(10).long())
    assert (found.output, round(found.rank_correlation, 3), found.sign) == (1, -1.0, -1)


def test_top_windows_are_disjoint_and_descend():
    scans = [torch.tensor([[0.0, 2.0, 0.0, 0.0, 1.0, 0.0]])]
    found = Explained(
        "integrated_gradients",
        ["a"],
        torch.tensor([1]),
        scans,
        torch.zeros(1, 0),
        torch.tensor([3.0]),
        None,
    )
    windows = top_windows(found, np.arange(10.0, 16.0), 2, width=0.5, unit="axis")
    shown = [(w.low, w.centre, w.high, round(w.value, 2)) for w in windows]
    assert shown == [(11.0, 11.0, 11.0, 0.67), (14.0, 14.0, 14.0, 0.33)]


def test_a_relative_width_grows_with_the_position():
    axis = np.array([100.0, 101.0, 102.0, 103.0])
    first, behind = window_edges(axis, 0.02, "relative")
    assert (first.tolist(), behind.tolist()) == ([0, 0, 1, 2], [2, 3, 4, 4])
