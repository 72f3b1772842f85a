from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.metrics import log_loss, roc_auc_score
from torch import nn

from engine.delong import delong_test
from experiments.facade.model_comparison import (
    Comparison,
    common_loss,
    compare,
    metric_bars,
    roc_curves,
    write_comparison,
)
from tests.experiments.pages.made_outputs import NAMES, make_outputs


def measured(task):
    def measure(model):
        return {"loss": 9.0, "own_term": 1.0, "auroc": 0.75}, make_outputs(task)

    return measure


def test_models_are_held_against_one_loss_not_each_against_its_own():
    outputs = make_outputs("multiclass")
    table = compare({"net": nn.Linear(2, 1)}, measured("multiclass")).table
    expected = log_loss(outputs.target.numpy(), outputs.probabilities.numpy())
    assert table.loc[0, "loss"] == pytest.approx(expected, abs=1e-6)
    assert "own_term" not in table
    assert table.loc[0, "auroc"] == 0.75
    assert table.loc[0, "parameters"] == 3
    assert table["seconds"].ge(0).all()


def test_two_classes_are_ranked_as_well_as_by_the_best_model_or_that_is_tested():
    worse, better = make_outputs("binary"), make_outputs("binary")
    better = replace(better, logits=better.logits + 2 * torch.eye(2)[better.target])
    models = {"worse": nn.Linear(2, 1), "better": nn.Linear(2, 1)}
    given = iter([worse, better])
    table = compare(models, lambda model: ({"auroc": 0.5}, next(given))).table
    good, bad = (found.probabilities[:, 1] for found in (better, worse))
    against_itself, expected = math.nan, delong_test(good, bad, worse.target).p_value
    assert table["delong_p"].tolist() == pytest.approx([expected, against_itself], nan_ok=True)
    assert expected < 0.5


@pytest.mark.parametrize("task", sorted(NAMES))
def test_the_common_loss_is_defined_for_every_task(task):
    assert math.isfinite(common_loss(make_outputs(task)))


def test_there_is_a_panel_a_metric_and_a_bar_a_model():
    table = pd.DataFrame(
        {"model": ["a", "b"], "auroc": [0.9, 0.8], "f1": [0.5, math.nan], "parameters": [1, 2]}
    )
    figure = metric_bars(table)
    assert [note.text for note in figure.layout.annotations] == ["auroc", "f1"]
    assert [list(trace.x) for trace in figure.data] == [["a", "b"]] * 2


def test_every_model_has_a_curve_in_every_panel():
    outputs = {"a": make_outputs("multilabel"), "b": make_outputs("multilabel")}
    figure = roc_curves(outputs, NAMES["multilabel"])
    assert [note.text for note in figure.layout.annotations] == NAMES["multilabel"]
    first = outputs["a"]
    for number in range(3):
        place = "x" if number == 0 else f"x{number + 1}"
        curves = [t for t in figure.data if t.xaxis == place and t.name in outputs]
        assert [curve.name for curve in curves] == ["a", "b"]
        expected = roc_auc_score(
            first.target[:, number].numpy(), first.probabilities[:, number].numpy()
        )
        assert np.trapezoid(curves[0].y, curves[0].x) == pytest.approx(expected)


def test_where_nothing_can_be_ranked_the_page_says_so(tmp_path):
    outputs = make_outputs("binary")
    outputs.target.fill_(0)
    comparison = Comparison(pd.DataFrame({"model": ["a"], "auroc": [math.nan]}), {"a": outputs})
    write_comparison(comparison, tmp_path, NAMES["binary"])
    assert "no class has both kinds of samples" in (tmp_path / "roc_comparison.html").read_text()
    assert "undefined" in (tmp_path / "model_comparison.html").read_text()
