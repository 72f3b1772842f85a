"""Thresholds and calibration in words, for the summary, the model card and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from datasets.messages import Message
from engine.reporting import DIGITS, SHORT_DIGITS, figure_text, share_text
from engine.statistics import COUNTS, LOWEST, RULES, Calibration, OperatingPoint
from experiments.analysis import TestAnalysis
from experiments.report.text.markdown_text import escape_markdown

# Why a threshold cannot be chosen on the validation set: of classes, and of a label.
ONE_KIND = "the validation set has only one class"
ONE_KIND_OF_LABEL = "all validation samples have this label, or none has"

Decisions = Mapping[str, Sequence[OperatingPoint]]

# A temperature of 1.5 turns a predicted 0.9 into 0.81.
FAR_TEMPERATURE = 1.5
# Above it the test set is not called well calibrated, whatever the temperature.
LARGE_ECE = 0.1
# By how much a figure must move from validation to test for a warning, if it is also further
# than by chance: two standard errors of the difference of two shares.
NOTABLE_MOVE, STANDARD_ERRORS = 0.1, 2.0
# A share and the two counts it is of.
SHARES = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp")}
TITLES = {"npv": "negative predictive value", "f1": "F1", "mcc": "MCC"} | {
    "tp": "true positives",
    "fp": "false positives",
    "fn": "false negatives",
    "tn": "true negatives",
}


def threshold_section(decisions: Decisions, task: str) -> str:
    """The summary's section on thresholds.

    Of one thing to decide on all figures on validation and test, and the other rules; of
    several a row each.
    """
    usual = "0.5 for each label" if task == "multilabel" else "the most likely class"
    apart = f"The results above and `predictions.csv` use {usual} instead."
    if len(decisions) > 1:
        points_of_all = chosen_points(decisions)
        return f"{points_of_all}\n\n{apart} `metrics.json` has all figures, and the other rules."
    ((name, points),) = decisions.items()
    chosen = points[0]
    figures = "\n".join(
        f"| {_title(figure)} | {_cell(figure, value)} | {_cell(figure, chosen.test[figure])} |"
        for figure, value in chosen.val.items()
    )
    rules = _points_table("rule", [(f"`{point.name}`", point) for point in points])
    return (
        f"{_said(name, chosen, task)} {_about_rule(chosen)}\n{apart}\n\n"
        f"| figure | validation | test |\n|---|---|---|\n{figures}\n\n"
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
    return (
        f"Temperature {calibration.temperature:.3g}, fitted on the validation set: "
        f"{about_temperature(calibration)}.\n\n"
        f"| figure | test | {divided} |\n|---|---|---|\n"
        f"| expected calibration error | {figure_text(before.ece)} | {figure_text(after.ece)} |\n"
        f"| Brier score | {figure_text(before.brier)} | {figure_text(after.brier)} |\n"
        f"| log loss | {figure_text(before.log_loss)} | {figure_text(after.log_loss)} |"
    )


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
    if 1 / FAR_TEMPERATURE < temperature < FAR_TEMPERATURE:
        if calibration.before.ece > LARGE_ECE:
            return Message(
                "near 1, but the calibration error on the test set is large (ECE {})", ece
            )
        return Message("well calibrated (ECE {})", ece)
    # The odds of 0.9 are 9 to 1.
    meant = 1 / (1 + 9 ** (-1 / temperature))
    verdict = "overconfident" if temperature > 1 else "underconfident"
    against = ", against one other class," if calibration.task == "multiclass" else ""
    told = f"{verdict} (ECE {{}}); a predicted 0.90{against} corresponds to about {{}}"
    return Message(told, ece, share_text(meant, 2))


def decision_lines(findings: TestAnalysis, task: str = "binary") -> Iterator[str]:
    """Thresholds and calibration for the terminal, one line each."""
    for name, points in findings.decisions.items():
        point = points[0]
        several = len(findings.decisions) > 1 or task == "multilabel"
        whose = f"{name}: " if several else f"positive class {name}: "
        if math.isnan(point.threshold):
            yield f"{whose}no threshold: {_one_kind(task)}"
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


def decision_warnings(findings: TestAnalysis, task: str = "binary") -> Iterator[Message]:
    """Warnings of the model card, without a full stop."""
    for name, points in findings.decisions.items():
        point = points[0]
        if math.isnan(point.threshold):
            yield Message(f"no threshold for {{}}: {_one_kind(task)}", name)
        moved = [
            Message(
                "{} {} on validation, {} on test",
                Message(figure),
                *(share_text(side[figure], 2) for side in (point.val, point.test)),
            )
            for figure in _moved(point)
        ]
        if moved:
            yield Message("the threshold for {} does not transfer: {}", name, moved)
    calibration = findings.calibration
    if calibration is not None and not (
        1 / FAR_TEMPERATURE < calibration.temperature < FAR_TEMPERATURE
    ):
        temperature = f"{calibration.temperature:.3g}"
        yield Message("temperature {}: {}", temperature, about_temperature(calibration))


def _moved(point: OperatingPoint) -> Iterator[str]:
    """Shares that differ between validation and test by more than chance."""
    for figure, counts in SHARES.items():
        apart = abs(point.val[figure] - point.test[figure])
        if math.isnan(apart) or apart <= NOTABLE_MOVE:
            continue
        subsets = (point.val, point.test)
        sizes = [sum(side[count] for count in counts) for side in subsets]
        share = sum(side[counts[0]] for side in subsets) / sum(sizes)
        error = math.sqrt(share * (1 - share) * sum(1 / size for size in sizes))
        if apart > STANDARD_ERRORS * error:
            yield figure


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


def _one_kind(task: str) -> str:
    return ONE_KIND_OF_LABEL if task == "multilabel" else ONE_KIND


def _said(name: str, point: OperatingPoint, task: str) -> str:
    escaped = escape_markdown(name)
    if math.isnan(point.threshold):
        return f"No threshold can be chosen: {_one_kind(task)}."
    if math.isinf(point.threshold):
        return f"No sample is predicted {escaped}."
    return f"A sample is predicted {escaped} from a probability of {_threshold(point)}."


def _about_rule(point: OperatingPoint) -> str:
    if point.rule not in RULES:
        return "The threshold is 0.5: no rule is configured."
    aim = RULES[point.rule].aim
    return f"The threshold is chosen on the validation set by the rule `{point.name}`: {aim}."


def _title(figure: str) -> str:
    return TITLES.get(figure, figure.replace("_", " "))


def _cell(figure: str, value: float) -> str:
    return f"{value:.0f}" if figure in COUNTS else _share(value)


def _share(value: float) -> str:
    return "nan" if math.isnan(value) else share_text(value)


def _threshold(point: OperatingPoint, digits: int = DIGITS) -> str:
    """A threshold; one below 1 is never written as 1, which no sample would reach."""
    text = f"{point.threshold:.{digits}g}"
    return share_text(point.threshold, digits) if text == "1" else text
