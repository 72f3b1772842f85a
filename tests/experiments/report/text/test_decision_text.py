from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from engine.statistics import (
    HIGHEST,
    LOWEST,
    Calibration,
    OperatingPoint,
    Reliability,
    operating_points,
)
from experiments.analysis import TestAnalysis
from experiments.report.text.markdown_text import (
    TEMPLATES,
    about_temperature,
    decision_lines,
    decision_warnings,
)

ODD = "ca|se_*1*"


def section(macro, *values):
    """A section of the summary or the model card."""
    return str(getattr(TEMPLATES.get_template("decisions.md.j2").module, macro)(*values)).strip()


def side(seed, positives=200, apart=0.2):
    rng = np.random.default_rng(seed)
    positive = np.arange(2 * positives) < positives
    return np.clip(rng.normal(0.4 + apart * positive, 0.12), 0, 1), positive


def points(rule="youden", demand=None, val=None, test=None):
    (of_val, val_positive), (of_test, test_positive) = val or side(0), test or side(1)
    return operating_points(of_val, val_positive, of_test, test_positive, rule, demand)


def calibrated(temperature):
    said = Reliability(np.array([0.9]), np.array([0.7]), np.array([10]), 0.2, 0.15, 0.61)
    mended = Reliability(np.array([0.7]), np.array([0.7]), np.array([10]), 0.01, 0.12, 0.45)
    return Calibration(temperature, said, mended)


def cells(table, first):
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {first} |")]
    return line.strip("| ").split(" | ")[1:]


def test_the_summary_has_every_figure_and_every_rule():
    found = points("recall", 0.8)
    text = section("threshold", {"case": found}, "binary")
    chosen = found[0]
    assert f"A sample is predicted case from a probability of {chosen.threshold:.4g}." in text
    assert "`recall >= 0.8`: the highest threshold at which" in text
    assert cells(text, "sensitivity") == [
        f"{chosen.val['sensitivity']:.4f}",
        f"{chosen.test['sensitivity']:.4f}",
    ]
    assert cells(text, "false positives") == [str(chosen.val["fp"]), str(chosen.test["fp"])]
    for point in found:
        row = cells(text, f"`{point.name}`")
        assert row[0] == f"{point.threshold:.4g}"
        assert row[2] == f"{point.val['specificity']:.4f}"
        assert row[3:] == [
            f"{point.test[f]:.4f}" for f in ("sensitivity", "specificity", "precision", "f1")
        ]


def test_of_several_each_has_a_row_of_the_chosen_rule():
    decisions = {"liver": points("f1"), "heart": points("f1", val=side(2))}
    text = section("threshold", decisions, "multilabel")
    for name, found in decisions.items():
        assert cells(text, name)[0] == f"{found[0].threshold:.4g}"
    assert "use 0.5 for each label" in text
    assert "`metrics.json` has all figures" in text


def test_names_cannot_become_markup():
    for text in (
        section("threshold", {ODD: points()}, "binary"),
        section("chosen", {ODD: points()}),
    ):
        assert ODD not in text
        assert "ca\\|se\\_\\*1\\*" in text


def test_a_threshold_that_no_rule_chose_is_said_to_be_half():
    text = section("threshold", {"case": points("default")}, "binary")
    assert "from a probability of 0.5." in text
    assert "no rule" in text
    (line,) = decision_lines(TestAnalysis({"case": points("default")}))
    assert line.startswith("positive class case: at the threshold 0.5: test sensitivity ")


def test_without_a_second_class_there_is_no_number():
    scores, _ = side(0)
    found = points(val=(scores, np.ones(len(scores), dtype=bool)))
    findings = TestAnalysis({"case": found})
    assert "No threshold can be chosen" in section("threshold", {"case": found}, "binary")
    assert list(decision_lines(findings)) == [
        "positive class case: no threshold: the validation set has only one class"
    ]
    (warning,) = decision_warnings(findings)
    assert warning.startswith("no threshold for case")


def test_a_threshold_that_nothing_reaches_is_said_to_call_nobody():
    scores, positive = side(0)
    scores[-1] = 1.0  # a negative
    found = points("fpr", 0.0, val=(scores, positive))
    assert math.isinf(found[0].threshold)
    assert "No sample is predicted case." in section("threshold", {"case": found}, "binary")


@pytest.mark.parametrize(
    ("temperature", "verdict"),
    [
        (1.0, "near 1"),
        (1.49, "near 1"),
        (0.67, "near 1"),
        (2.0, "overconfident (ECE 0.20); a predicted 0.90 corresponds to about 0.75"),
        (0.5, "underconfident (ECE 0.20); a predicted 0.90 corresponds to about 0.99"),
        (LOWEST, "the smallest value tried"),
        (HIGHEST, "the largest value tried"),
    ],
)
def test_a_temperature_is_told_in_words(temperature, verdict):
    assert verdict in about_temperature(calibrated(temperature))
    warned = list(decision_warnings(TestAnalysis(calibration=calibrated(temperature))))
    assert bool(warned) == (verdict != "near 1")


def test_well_calibrated_is_said_by_the_error_shown():
    found = calibrated(1.0)
    assert "large (ECE 0.20)" in about_temperature(found)
    found = replace(found, before=replace(found.before, ece=0.04))
    assert about_temperature(found) == "well calibrated (ECE 0.04)"


def test_labels_have_words_of_their_own():
    for temperature, meant in (
        (2.0, "overconfident .* a predicted 0.90 corresponds to about 0.75"),
        (0.5, "underconfident .* a predicted 0.90 corresponds to about 0.99"),
    ):
        of_labels = replace(calibrated(temperature), task="multilabel")
        assert re.search(meant, about_temperature(of_labels))
    scores, _ = side(0)
    found = TestAnalysis({"liver": points(val=(scores, np.ones(len(scores), dtype=bool)))})
    told = [
        *decision_lines(found, "multilabel"),
        *decision_warnings(found, "multilabel"),
        section("threshold", found.decisions, "multilabel"),
        section("calibration", None, "multilabel"),
    ]
    for text in told:
        assert "class" not in text.replace("classification", "")
    assert "all validation samples have this label, or none has" in told[0]


def test_the_calibration_is_told_before_and_after():
    text = section("calibration", calibrated(2.0))
    assert "Temperature 2, fitted on the validation set" in text
    assert cells(text, "expected calibration error") == ["0.2000", "0.0100"]
    assert cells(text, "Brier score") == ["0.1500", "0.1200"]
    assert cells(text, "log loss") == ["0.6100", "0.4500"]
    assert "No temperature can be fitted" in section("calibration", None, "binary")


def test_the_terminal_has_a_line_for_each_decision():
    one = list(decision_lines(TestAnalysis({"case": points()}, calibrated(2.0))))
    chosen = points()[0]
    assert one[0] == (
        f"positive class case: at the threshold {chosen.threshold:.2g} (youden on validation): "
        "test sensitivity "
        f"{chosen.test['sensitivity']:.2f}, specificity {chosen.test['specificity']:.2f}"
    )
    assert one[1].startswith("temperature 2.00: overconfident")
    assert one[1].endswith("calibration error 0.200, after scaling 0.010")
    several = list(decision_lines(TestAnalysis({"liver": points(), "heart": points()})))
    assert [line.split(":")[0] for line in several] == ["liver", "heart"]
    assert list(decision_lines(TestAnalysis())) == []


def test_a_threshold_that_does_not_carry_over_is_warned_of():
    carried = TestAnalysis({"case": points()})
    assert list(decision_warnings(carried)) == []
    scores, positive = side(1)
    moved = points(test=(np.clip(scores + 0.15, 0, 1), positive))  # another site, say
    (warning,) = decision_warnings(TestAnalysis({"case": moved}))
    assert warning.startswith("the threshold for case does not transfer")
    for figure in ("sensitivity", "specificity"):
        val, test = moved[0].val[figure], moved[0].test[figure]
        assert f"{figure} {val:.2f} on validation, {test:.2f}" in warning


def test_what_a_few_samples_may_do_by_chance_is_not_warned_of():
    val = {"sensitivity": 0.8, "specificity": 0.9, "tp": 8, "fn": 2, "tn": 9, "fp": 1}
    test = {"sensitivity": 0.6, "specificity": 0.9, "tp": 6, "fn": 4, "tn": 9, "fp": 1}
    assert not list(
        decision_warnings(TestAnalysis({"case": [OperatingPoint("youden", None, 0.4, val, test)]}))
    )
    val, test = (
        {k: v if isinstance(v, float) else 20 * v for k, v in of.items()} for of in (val, test)
    )
    (warning,) = decision_warnings(
        TestAnalysis({"case": [OperatingPoint("youden", None, 0.4, val, test)]})
    )
    assert "sensitivity 0.80 on validation" in warning
