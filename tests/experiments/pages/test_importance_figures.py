from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.attribution import Importance
from experiments.pages.importance_figures import (
    MOST_BARS,
    covariate_figure,
    importance_sections,
    point_figure,
)


@pytest.fixture
def importance() -> Importance:
    """Ten points of which the fourth says most, three covariates of which the second lowers."""
    points = torch.full((10,), 0.1)
    points[3] = 2.1
    covariates = torch.tensor([0.2, 0.7, 0.1])
    return Importance(points, covariates, -points, covariates * torch.tensor([1, -1, 1]), 8, 1e-4)


def test_points_stand_over_the_axis_or_over_their_numbers(importance):
    axis = np.linspace(2000, 20000, 10)
    assert list(point_figure(importance, axis, "m/z").data[0].x) == list(axis)
    assert point_figure(importance, axis, "m/z").layout.xaxis.title.text == "m/z"
    assert list(point_figure(importance).data[0].x) == list(range(10))
    assert point_figure(importance).layout.xaxis.title.text == "point"
    assert int(np.argmax(point_figure(importance).data[0].y)) == 3


def test_covariates_are_sorted_and_coloured_by_their_direction(importance):
    figure = covariate_figure(importance, ["age", "sex", "CRP"])
    assert list(figure.layout.yaxis.categoryarray) == ["sex", "age", "CRP"]
    raises, lowers = figure.data
    assert list(raises.y) == ["age", "CRP"]
    assert list(lowers.y) == ["sex"]
    assert list(lowers.x) == pytest.approx([0.7])


def test_of_many_covariates_the_largest_are_shown():
    sizes = torch.arange(100).float()
    many = Importance(torch.ones(2), sizes, torch.ones(2), sizes, 1, None)
    bars = [bar for trace in covariate_figure(many).data for bar in trace.y]
    assert len(bars) == MOST_BARS
    assert bars[0] == "covariate 99"


def test_the_shares_of_the_modalities_are_said(importance):
    sections = importance_sections(importance, "the logit of case")
    assert "75% of their absolute sum lies in the spectra, 25%" in sections[0].text
    assert "the logit of case" in sections[0].text
    assert [section.name for section in sections] == ["points", "covariates"]


def test_no_covariates_and_nothing_found_make_a_page_too():
    nothing = Importance(torch.zeros(4), torch.zeros(0), torch.zeros(4), torch.zeros(0), 2, None)
    sections = importance_sections(nothing, "the prediction")
    assert [section.name for section in sections] == ["points"]
