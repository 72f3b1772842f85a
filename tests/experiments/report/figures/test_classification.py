from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from engine.statistics import calibrate, figures_at
from experiments.report.figures import outcomes as figures
from experiments.report.figures.outcomes import (
    LARGEST,
    SHOWN,
    SMALLEST,
    THRESHOLDS,
    reliability_section,
    threshold_sections,
)
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


def test_a_label_that_cannot_be_ranked_is_named():
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


def test_a_metric_logged_as_null_or_a_word_is_a_gap():
    rows = [
        {"epoch": 1, "metrics": {"val/auroc": None, "val/loss": "inf"}},
        {"epoch": 2, "metrics": {"val/auroc": 0.75, "val/loss": 0.5}},
    ]
    curves = {trace.y for trace in figures.training_curves(rows).data}
    assert curves == {(None, 0.75), (None, 0.5)}


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


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_both_sides_of_scaling_are_drawn_and_told_in_figures(task):
    outputs = make_outputs(task, 120)
    calibration = calibrate(outputs, outputs)
    assert calibration is not None
    section = reliability_section(calibration, task, NAMES[task])
    assert section.figure is not None
    assert section.table is not None
    _, before, after = section.figure.data
    np.testing.assert_array_equal(before.y, calibration.before.share)
    np.testing.assert_array_equal(after.x, calibration.after.confidence)
    assert np.max(before.marker.size) == LARGEST
    assert np.min(before.marker.size) >= SMALLEST
    assert f"validation set is {calibration.temperature:.3g}: " in section.text
    assert section.table[1] == (
        "expected calibration error",
        f"{calibration.before.ece:.4f}",
        f"{calibration.after.ece:.4f}",
    )


def test_it_says_of_which_probability_it_is():
    titles = {}
    for task in ("binary", "multiclass", "multilabel"):
        outputs = make_outputs(task)
        calibration = calibrate(outputs, outputs)
        assert calibration is not None
        section = reliability_section(calibration, task, ["<i>a</i>", "<i>b</i>"])
        assert section.figure is not None
        titles[task] = section.figure.layout.xaxis.title.text
    assert titles == {
        "binary": "predicted probability of &lt;i&gt;b&lt;/i&gt;",
        "multiclass": "probability of the most likely class",
        "multilabel": "predicted probability of a label",
    }
