"""Thresholds and calibration in words, for the summary, the model card and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from datasets.messages import Message
from engine.reporting import DIGITS, SHORT_DIGITS, figure_text, share_text
from engine.statistics import COUNTS, LOWEST, RULES, Calibration, OperatingPoint
from experiments.report.text.markdown_text import escape_markdown

if TYPE_CHECKING:
    from experiments.analysis import TestAnalysis

Decisions = Mapping[str, Sequence[OperatingPoint]]
# A temperature of 1.5 turns a predicted 0.9 into 0.81.
FAR_TEMPERATURE = 1.5
# Above it the test set is not called well calibrated, whatever the temperature.
LARGE_ECE = 0.1
RELIABILITY_FIGURES = {
    "expected calibration error": "ece",
    "Brier score": "brier",
    "log loss": "log_loss",
}

TITLES = {"npv": "negative predictive value", "f1": "F1", "mcc": "MCC"} | {
    "tp": "true positives",
    "fp": "false positives",
    "fn": "false negatives",
    "tn": "true negatives",
}


def threshold_section(decisions: Decisions, task: str) -> str:
    """The summary's section: all figures and rules of one decision, of several a row each."""
    usual = "0.5 for each label" if task == "multilabel" else "the most likely class"
    apart = f"The results above and `predictions.csv` use {usual} instead."
    if len(decisions) > 1:
        points_of_all = chosen_points(decisions)
        return f"{points_of_all}\n\n{apart} `metrics.json` has all figures, and the other rules."
    ((name, points),) = decisions.items()
    chosen = points[0]
    figures = []
    for figure in chosen.val:
        pair = (chosen.val[figure], chosen.test[figure])
        cells = [f"{value:.0f}" if figure in COUNTS else _share(value) for value in pair]
        title = TITLES.get(figure, figure.replace("_", " "))
        figures.append(f"| {title} | {cells[0]} | {cells[1]} |\n")
    rules = _points_table("rule", [(f"`{point.name}`", point) for point in points])
    return (
        f"{_said(name, chosen, task)} {_about_rule(chosen)}\n{apart}\n\n"
        f"| figure | validation | test |\n|---|---|---|\n{''.join(figures)}\n"
        f"All rules:\n\n{rules}"
    )


def chosen_points(decisions: Decisions) -> str:
    """The configured rule's threshold of everything that is decided on, as a Markdown table."""
    rule = next(iter(decisions.values()))[0]
    rows = [(escape_markdown(name), points[0]) for name, points in decisions.items()]
    return f"{_about_rule(rule)}\n\n{_points_table('predicted positive', rows)}"


def calibration_section(calibration: Calibration | None, task: str = "binary") -> str:
    """The temperature and what it does, as a sentence and a Markdown table."""
    if calibration is None:
        if task == "multilabel":
            return "No temperature can be fitted: all validation labels are present, or none is."
        return (
            "No temperature can be fitted: the validation set has only one class, or the model's "
            "scores are equal for all classes."
        )
    before, after = calibration.before, calibration.after
    divided = f"test, logits divided by {calibration.temperature:.3g}"
    rows = [
        f"\n| {name} | {figure_text(getattr(before, key))} | {figure_text(getattr(after, key))} |"
        for name, key in RELIABILITY_FIGURES.items()
    ]
    return (
        f"Temperature {calibration.temperature:.3g}, fitted on the validation set: "
        f"{about_temperature(calibration)}.\n\n"
        f"| figure | test | {divided} |\n|---|---|---|{''.join(rows)}"
    )


def decision_lines(findings: TestAnalysis, task: str = "binary") -> Iterator[str]:
    """Thresholds and calibration for the terminal, one line each."""
    for name, points in findings.decisions.items():
        point = points[0]
        several = len(findings.decisions) > 1 or task == "multilabel"
        whose = f"{name}: " if several else f"positive class {name}: "
        if math.isnan(point.threshold):
            yield f"{whose}no threshold: {one_kind(task)}"
            continue
        chosen = "" if point.rule not in RULES else f" ({point.name} on validation)"
        yield (
            f"{whose}at the threshold {_threshold(point, 2)}{chosen}: "
            f"test sensitivity {share_text(point.test['sensitivity'], 2)}, "
            f"specificity {share_text(point.test['specificity'], 2)}"
        )
    calibration = findings.calibration
    if calibration is not None:
        temperature = figure_text(calibration.temperature, 2)
        yield (
            f"temperature {temperature}: {about_temperature(calibration)}; "
            f"calibration error {figure_text(calibration.before.ece, SHORT_DIGITS)}, "
            f"after scaling {figure_text(calibration.after.ece, SHORT_DIGITS)}"
        )


def _points_table(first: str, rows: Iterable[tuple[str, OperatingPoint]]) -> str:
    lines = [
        f"| {first} | threshold | validation sensitivity | validation specificity "
        "| test sensitivity | test specificity | test precision | test F1 |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, point in rows:
        of_val = [point.val[figure] for figure in ("sensitivity", "specificity")]
        of_test = [point.test[f] for f in ("sensitivity", "specificity", "precision", "f1")]
        cells = " | ".join(map(_share, (*of_val, *of_test)))
        lines.append(f"| {name} | {_threshold(point)} | {cells} |")
    return "\n".join(lines)


def _said(name: str, point: OperatingPoint, task: str) -> str:
    escaped = escape_markdown(name)
    if math.isnan(point.threshold):
        return f"No threshold can be chosen: {one_kind(task)}."
    if math.isinf(point.threshold):
        return f"No sample is predicted {escaped}."
    return f"A sample is predicted {escaped} from a probability of {_threshold(point)}."


def _about_rule(point: OperatingPoint) -> str:
    if point.rule not in RULES:
        return "The threshold is 0.5: no rule is configured."
    aim = RULES[point.rule].aim
    return f"The threshold is chosen on the validation set by the rule `{point.name}`: {aim}."


def _share(value: float) -> str:
    return "nan" if math.isnan(value) else share_text(value)


def _threshold(point: OperatingPoint, digits: int = DIGITS) -> str:
    """A threshold; one below 1 is never written as 1, which no sample would reach."""
    text = f"{point.threshold:.{digits}g}"
    return share_text(point.threshold, digits) if text == "1" else text


def about_temperature(calibration: Calibration) -> Message:
    """Whether the model is over- or underconfident, with its calibration error on the test set."""
    temperature = calibration.temperature
    if calibration.at_limit and temperature == LOWEST:
        return Message("the smallest value tried: the validation set does not bound the confidence")
    if calibration.at_limit:
        return Message(
            "the largest value tried: confidence carries no information on the validation set"
        )
    ece = figure_text(calibration.before.ece, 2)
    if is_near_one(temperature):
        large = "near 1, but the calibration error on the test set is large (ECE {})"
        well = "well calibrated (ECE {})"
        return Message(large if calibration.before.ece > LARGE_ECE else well, ece)
    # The odds of 0.9 are 9 to 1.
    meant = 1 / (1 + 9 ** (-1 / temperature))
    verdict = "overconfident" if temperature > 1 else "underconfident"
    against = ", against one other class," if calibration.task == "multiclass" else ""
    told = f"{verdict} (ECE {{}}); a predicted 0.90{against} corresponds to about {{}}"
    return Message(told, ece, share_text(meant, 2))


def is_near_one(temperature: float) -> bool:
    """Whether a temperature leaves the probabilities about as they are."""
    return 1 / FAR_TEMPERATURE < temperature < FAR_TEMPERATURE


def one_kind(task: str) -> str:
    """Why a threshold cannot be chosen on the validation set."""
    if task == "multilabel":
        return "all validation samples have this label, or none has"
    return "the validation set has only one class"
