from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.statistics import Interval
from experiments.comparison import comparison_figures as figures
from tests.experiments.report.made_outputs import NAMES, make_outputs

UNDEFINED = float("nan")


def titles(figure):
    return [note.text for note in figure.layout.annotations]


def place(number):
    return "x" if number == 0 else f"x{number + 1}"


def two(task):
    outputs = make_outputs(task)
    return {"a": outputs, "b": replace(outputs, logits=outputs.logits.flip(0))}


def test_each_metric_has_a_panel_of_bars_with_intervals():
    figure = figures.metric_bars(
        ["a", "b"],
        {
            "auroc": [Interval(0.9, 0.7, 0.95), Interval(0.8)],
            "f1": [Interval(0.5), Interval(UNDEFINED)],
        },
    )
    assert titles(figure) == ["auroc", "f1"]
    assert [(t.name, t.y[0]) for t in figure.data[:3]] == [("a", 0.9), ("b", 0.8), ("a", 0.5)]
    whiskers = figure.data[0].error_y
    assert (whiskers.array[0], whiskers.arrayminus[0]) == pytest.approx((0.05, 0.2))
    assert "0.700 to 0.950" in figure.data[0].hovertemplate
    assert figure.data[1].error_y.array is None
    assert [t.showlegend for t in figure.data] == [True, True, False, False]


def test_differences_are_points_around_a_line_at_zero():
    figure = figures.metric_differences(
        ["first", "b", "c"], {"mae": [Interval(-0.1, -0.2, 0.1), Interval(0.3, 0.1, 0.4)]}
    )
    assert [(t.name, t.y[0]) for t in figure.data] == [("b", -0.1), ("c", 0.3)]
    assert figure.layout.shapes[0].y0 == figure.layout.shapes[0].y1 == 0
    # The colours are those of the bars.
    bars = figures.metric_bars(["first", "b", "c"], {"mae": [Interval(1.0)] * 3})
    assert [t.marker.color for t in figure.data] == [t.marker.color for t in bars.data[1:]]


def test_models_beyond_the_colours_are_still_told_apart():
    names = [f"model {number}" for number in range(9)]
    bars = figures.metric_bars(names, {"auroc": [Interval(0.5)] * 9})
    looks = {(t.marker.color, t.marker.pattern.shape) for t in bars.data}
    assert len(looks) == 9
    outputs = make_outputs("binary")
    curves = figures.roc_curves(dict.fromkeys(names, outputs), NAMES["binary"])
    lines = {(t.line.color, t.line.dash) for t in curves.data if t.name in names}
    assert len(lines) == 9


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_every_model_has_both_curves_in_the_panel_of_each_class(task):
    outputs = two(task)
    panels = NAMES[task][1:] if task == "binary" else NAMES[task]
    roc = figures.roc_curves(outputs, NAMES[task])
    pr = figures.precision_recall_curves(outputs, NAMES[task])
    table = figures.areas(outputs, NAMES[task])[1:]
    assert titles(roc) == titles(pr) == panels
    for number, name in enumerate(panels):
        column = 1 if task == "binary" else number
        for model, found in outputs.items():
            true = found.target.numpy()
            true = true[:, column] > 0 if task == "multilabel" else true == column
            by = found.probabilities[:, column].numpy()
            under_roc, precision = roc_auc_score(true, by), average_precision_score(true, by)
            (curve,) = [t for t in roc.data if (t.xaxis, t.name) == (place(number), model)]
            assert np.trapezoid(curve.y, curve.x) == pytest.approx(under_roc)
            (curve,) = [t for t in pr.data if (t.xaxis, t.name) == (place(number), model)]
            steps = -np.sum(np.diff(curve.x) * np.array(curve.y)[:-1])
            assert steps == pytest.approx(precision)
            assert [model, name, f"{under_roc:.4f}", f"{precision:.4f}"] in table


def test_chance_is_the_diagonal_and_the_share_of_positives():
    outputs = two("multilabel")
    roc = figures.roc_curves(outputs, NAMES["multilabel"])
    pr = figures.precision_recall_curves(outputs, NAMES["multilabel"])
    assert sum(t.name == "chance" for t in roc.data) == 3
    shares = [t.y[0] for t in pr.data if t.name == "chance"]
    assert shares == pytest.approx(outputs["a"].target.mean(dim=0).tolist())


def test_where_nothing_can_be_ranked_the_figure_says_so():
    outputs = two("binary")
    for found in outputs.values():
        found.target.fill_(0)
    for figure in (figures.roc_curves, figures.precision_recall_curves):
        drawn = figure(outputs, NAMES["binary"])
        assert [note.text for note in drawn.layout.annotations] == ["case", "undefined"]
        assert len(drawn.data) == 0


def test_a_label_of_one_kind_has_an_empty_panel_that_says_so():
    outputs = two("multilabel")
    for found in outputs.values():
        found.target[:, 1] = 0
    for figure in (figures.roc_curves, figures.precision_recall_curves):
        drawn = figure(outputs, NAMES["multilabel"])
        assert [note.text for note in drawn.layout.annotations] == [
            *NAMES["multilabel"],
            "undefined",
        ]
        assert sum(trace.showlegend is True for trace in drawn.data) == 3  # a, b and chance
    cells = {(row[0], row[1]): row[2:] for row in figures.areas(outputs, NAMES["multilabel"])}
    assert cells["a", "heart"] == ["undefined", "undefined"]
    assert float(cells["a", "liver"][0]) > 0


def test_only_a_diverged_model_has_no_curve():
    outputs = two("binary")
    outputs["a"] = replace(outputs["a"], logits=outputs["a"].logits * UNDEFINED)
    figure = figures.roc_curves(outputs, NAMES["binary"])
    assert [t.name for t in figure.data] == ["b", "chance"]


def test_predictions_of_all_models_stand_over_each_target():
    outputs = two("regression")
    figure = figures.overlaid_predictions(outputs, NAMES["regression"])
    assert titles(figure) == NAMES["regression"]
    for number in range(2):
        points = [t for t in figure.data if t.xaxis == place(number) and t.name in outputs]
        assert [t.name for t in points] == ["a", "b"]
        for t in points:
            found = outputs[t.name]
            assert np.array_equal(t.x, found.target[:, number])
            assert np.array_equal(t.y, found.predictions[:, number])
            assert t.text[0] == "s0"


def test_names_are_shown_as_text():
    name, sample = "<b>a</b>", "<i>s</i>"
    outputs = make_outputs("regression")
    outputs = replace(outputs, sample_id=[sample] * len(outputs.sample_id))
    for figure in (
        figures.metric_bars([name], {name: [Interval(1.0)]}),
        figures.metric_differences(["x", name], {name: [Interval(1.0)]}),
        figures.roc_curves({name: make_outputs("multiclass")}, [name, "b", "c", "d"]),
        figures.overlaid_predictions({name: outputs}, [name, "b"]),
    ):
        text = figure.to_json()
        assert "\\u003cb\\u003e" not in text
        assert "<b>" not in text
        assert "<i>" not in text
        assert "&lt;b&gt;a" in text.replace("\\u0026", "&")
