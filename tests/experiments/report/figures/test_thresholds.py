from __future__ import annotations

import numpy as np
import pytest
import torch

from engine.statistics import figures_at
from experiments.report.figures.thresholds import SHOWN, THRESHOLDS, threshold_sections
from tests.experiments.report.made_outputs import NAMES, make_outputs


def test_each_line_is_a_figure_of_the_decision_by_threshold():
    outputs = make_outputs("binary")
    (section,) = threshold_sections(outputs, NAMES["binary"])
    assert section.figure is not None
    scores, positive = outputs.probabilities[:, 1].numpy(), outputs.target.numpy() == 1
    for line, key in zip(section.figure.data, SHOWN, strict=True):
        for place in (0, 77, 100, 200):
            expected = figures_at(scores, positive, float(THRESHOLDS[place]))[key]
            assert line.y[place] == pytest.approx(expected, nan_ok=True)
    assert not section.figure.layout.updatemenus
    at_half = section.figure.data[list(SHOWN).index("balanced_accuracy")].y[100]
    assert at_half == pytest.approx(figures_at(scores, positive, 0.5)["balanced_accuracy"])


@pytest.mark.parametrize("task", ["multiclass", "multilabel"])
def test_a_menu_chooses_among_several_classes_or_labels(task):
    (section,) = threshold_sections(make_outputs(task), NAMES[task])
    assert section.figure is not None
    buttons = section.figure.layout.updatemenus[0].buttons
    assert [button.label for button in buttons] == NAMES[task]
    assert len(section.figure.data) == len(SHOWN) * len(NAMES[task])
    assert np.sum([line.visible for line in section.figure.data]) == len(SHOWN)


def test_where_nothing_is_decided_there_is_no_section():
    assert threshold_sections(make_outputs("regression"), NAMES["regression"]) == []
    one_class = make_outputs("binary")
    one_class.target.fill_(0)
    assert threshold_sections(one_class, NAMES["binary"]) == []
    diverged = make_outputs("binary")
    diverged.logits[0] = torch.nan
    assert threshold_sections(diverged, NAMES["binary"]) == []
