from __future__ import annotations

import math

import pytest
import torch
from scipy.stats import spearmanr

from engine.explain.attribution_directions import FEWEST_SAMPLES, find_direction, toward_second

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


def test_of_positive_intensities_the_sign_of_the_weight_decides_not_where_zero_is(values):
    intensities = values.abs() + 5
    found = find_direction(intensities, -intensities, torch.zeros(SAMPLES).long())
    assert found.sign == -1


def test_the_correlation_is_spearmans(values):
    noisy = values + 2 * torch.randn(SAMPLES)
    found = find_direction(values, noisy, torch.zeros(SAMPLES).long())
    assert found.rank_correlation == pytest.approx(spearmanr(values, noisy).statistic)


def test_the_output_on_which_the_feature_has_most_influence_is_named(values):
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


def test_what_speaks_for_the_first_of_two_classes_speaks_against_the_second():
    attributions = torch.tensor([[1.0, -2.0], [3.0, 4.0]])
    turned = toward_second(attributions, torch.tensor([0, 1]))
    assert turned.tolist() == [[-1.0, 2.0], [3.0, 4.0]]
