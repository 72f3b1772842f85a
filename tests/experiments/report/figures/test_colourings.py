from __future__ import annotations

import numpy as np
import pytest

from experiments.report.figures.colourings import MOST_KINDS, OTHERS_COLOUR, colourings
from experiments.report.figures.common import PALETTE
from tests.experiments.report.made_outputs import NAMES, SAMPLES, make_outputs


def by_name(task, columns=None):
    return {one.name: one for one in colourings(make_outputs(task), NAMES[task], columns)}


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_truth_prediction_and_whether_they_agree_come_first(task):
    found = by_name(task)
    assert list(found) == ["true label", "prediction", "correct or wrong"]
    for one in found.values():
        assert set(one.values) <= set(one.kinds)


def test_correct_are_those_whose_prediction_is_their_label():
    outputs, found = make_outputs("multiclass"), by_name("multiclass")
    right = (outputs.target == outputs.predictions).numpy()
    assert list(found["correct or wrong"].values == "correct") == list(right)


def test_of_labels_correct_are_those_with_all_of_them_right():
    outputs, found = make_outputs("multilabel"), by_name("multilabel")
    right = (outputs.target == outputs.predictions).all(dim=1).numpy()
    assert list(found["correct or wrong"].values == "all labels right") == list(right)


def test_values_are_coloured_by_their_size_and_by_what_was_missed():
    outputs, found = make_outputs("regression"), by_name("regression")
    missed = found["age: predicted - true"]
    assert missed.kinds is None
    assert missed.around_zero
    np.testing.assert_allclose(
        missed.values, (outputs.predictions - outputs.target)[:, 0].numpy(), rtol=1e-6
    )


def test_the_largest_groups_have_colours_of_their_own_and_the_rest_one():
    groups = [f"g{min(i // 2, 13)}" for i in range(SAMPLES)]
    found = by_name("binary", {"group": groups})["group"]
    assert found.kinds[0] == "g13"  # six samples, where the others have two
    assert len(found.kinds) == MOST_KINDS + 1
    assert found.kinds[-1] == "others (2)"
    assert sum(found.values == "others (2)") == 4
    styles = [tuple(found.style(number).values()) for number in range(MOST_KINDS + 1)]
    assert len(set(styles)) == MOST_KINDS + 1
    assert {colour for colour, _ in styles[:-1]} == set(PALETTE)
    assert styles[-1][0] == OTHERS_COLOUR


@pytest.mark.parametrize("values", [["same"] * SAMPLES, [str(i) for i in range(SAMPLES)]])
def test_what_tells_nobody_or_everybody_apart_is_left_out(values):
    assert "batch" not in by_name("binary", {"batch": values})
