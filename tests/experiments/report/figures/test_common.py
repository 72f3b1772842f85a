from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from experiments.report.figures import common as figures
from tests.experiments.report.made_outputs import NAMES, SAMPLES, make_outputs


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_every_class_or_label_that_can_be_ranked_has_its_curves(task):
    outputs = make_outputs(task)
    figure = figures.ranking_curves(outputs, NAMES[task])
    expected = ["case"] if task == "binary" else NAMES[task]
    assert [trace.name for trace in figure.data] == [
        *(name for name in expected for _ in range(2)),
        "chance",
    ]


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_a_roc_has_the_area_that_scikit_learn_gives(task):
    outputs = make_outputs(task)
    for number, name, scores, positive in figures.ranked_scores(outputs, NAMES[task]):
        figure = figures.ranking_curves(outputs, NAMES[task])
        roc = next(trace for trace in figure.data if trace.name == name)
        truth = outputs.target[:, number] if task == "multilabel" else outputs.target == number
        expected = roc_auc_score(truth.numpy(), outputs.probabilities[:, number].numpy())
        assert np.trapezoid(roc.y, roc.x) == pytest.approx(expected)
        assert (positive == (truth.numpy() > 0)).all()
        assert len(scores) == SAMPLES


@pytest.mark.parametrize("task", ["binary", "multilabel"])
def test_what_nobody_or_everybody_has_cannot_be_ranked(task):
    outputs = make_outputs(task)
    outputs.target.fill_(0)
    figure = figures.ranking_curves(outputs, NAMES[task])
    names = NAMES[task][1:] if task == "binary" else NAMES[task]
    assert [trace.name for trace in figure.data] == [f"{name}: undefined" for name in names]
    panels = [note.text for note in figure.layout.annotations]
    assert panels.count("undefined") == 2
    assert figures.about_unranked(outputs, NAMES[task]).endswith(f"{names[-1]}.")


def test_one_label_that_cannot_be_ranked_is_named_beside_those_that_can():
    outputs = make_outputs("multilabel")
    outputs.target[:, 1] = 1
    figure = figures.ranking_curves(outputs, NAMES["multilabel"])
    assert {t.name for t in figure.data} == {"liver", "lung", "heart: undefined", "chance"}
    assert "undefined" not in [note.text for note in figure.layout.annotations]
    told = figures.about_unranked(outputs, NAMES["multilabel"])
    assert told == "Undefined because all samples are of one class: heart."
    assert figures.about_unranked(make_outputs("multilabel"), NAMES["multilabel"]) == ""


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_the_confusion_matrix_counts_every_sample_once(task):
    outputs = make_outputs(task)
    (heatmap,) = figures.confusion(outputs, NAMES[task]).data
    assert np.sum(heatmap.z) == SAMPLES
    right = int((outputs.logits.argmax(1) == outputs.target).sum())
    assert np.trace(heatmap.z) == right


def test_each_label_is_counted_by_itself():
    outputs = make_outputs("multilabel")
    (heatmap,) = figures.confusion(outputs, NAMES["multilabel"]).data
    assert np.sum(heatmap.z, axis=1).tolist() == [SAMPLES] * 3
    said, true = outputs.probabilities[:, 1] >= 0.5, outputs.target[:, 1] == 1
    row = heatmap.z[list(heatmap.y).index("heart")]
    assert list(row) == [
        int((said & true).sum()),
        int((~said & true).sum()),
        int((said & ~true).sum()),
        int((~said & ~true).sum()),
    ]


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_every_score_is_in_the_histogram_of_its_true_side(task):
    outputs = make_outputs(task)
    traces = figures.score_histogram(outputs, NAMES[task]).data
    shown = sum(len(trace.y if task == "multilabel" else trace.x) for trace in traces)
    assert shown == SAMPLES * (3 if task == "multilabel" else 1)
    if task == "multilabel":
        absent, present = traces
        assert len(present.y) == int(outputs.target.sum())
        assert np.mean(present.y) > np.mean(absent.y)


def test_a_metric_that_the_log_holds_as_null_or_as_a_word_is_a_gap():
    rows = [
        {"epoch": 1, "metrics": {"val/auroc": None, "val/loss": "inf"}},
        {"epoch": 2, "metrics": {"val/auroc": 0.75, "val/loss": 0.5}},
    ]
    curves = {trace.y for trace in figures.training_curves(rows).data}
    assert curves == {(None, 0.75), (None, 0.5)}
