"""Thresholds and calibration in words, for the summary, the model card and the terminal."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.calibration import LOWEST, Calibration
from engine.thresholds import COUNTS, RULES, OperatingPoint
from experiments.findings import Findings
from experiments.markdown_text import escape_markdown

Decisions = Mapping[str, Sequence[OperatingPoint]]

# A temperature of 1.5 turns a said 0.9 into 0.81.
FAR_TEMPERATURE = 1.5
# By how much a figure must move between the sides to be worth a warning, if it is also further
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
    """What the summary says of thresholds.

    Of one thing to decide on all figures on both sides, and what the other rules would give; of
    several a row each.

    Args:
        decisions: As :class:`experiments.findings.Findings` has them; at least one.
        task: Of a classification.
    """
    usual = "0.5 for each label" if task == "multilabel" else "the likeliest class"
    apart = f"The results above and `predictions.csv` go by {usual} instead."
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
        f"{_said(name, chosen)} {_about_rule(chosen)}\n{apart}\n\n"
        f"| figure | validation | test |\n|---|---|---|\n{figures}\n\n"
        f"What each rule would give:\n\n{rules}"
    )


def chosen_points(decisions: Decisions) -> str:
    """The configured rule's threshold of everything that is decided on, as a Markdown table.

    Args:
        decisions: At least one.
    """
    rule = next(iter(decisions.values()))[0]
    rows = [(escape_markdown(name), points[0]) for name, points in decisions.items()]
    return f"{_about_rule(rule)}\n\n{_points_table('called positive', rows)}"


def calibration_section(calibration: Calibration | None) -> str:
    """The temperature and what it does, as a sentence and a Markdown table.

    Args:
        calibration: None of a classification whose validation side gives no temperature.
    """
    if calibration is None:
        return (
            "No temperature can be fitted: the validation side holds one class only, or the model "
            "says the same of all classes."
        )
    before, after = calibration.before, calibration.after
    divided = f"test, logits divided by {calibration.temperature:.3g}"
    return (
        f"Temperature {calibration.temperature:.3g}, fitted on the validation side: "
        f"{about_temperature(calibration)}.\n\n"
        f"| figure | test | {divided} |\n|---|---|---|\n"
        f"| expected calibration error | {before.ece:.4f} | {after.ece:.4f} |\n"
        f"| Brier score | {before.brier:.4f} | {after.brier:.4f} |\n"
        f"| log loss | {before.log_loss:.4f} | {after.log_loss:.4f} |"
    )


def about_temperature(calibration: Calibration) -> str:
    """What a temperature says of the model."""
    temperature = calibration.temperature
    if calibration.at_limit and temperature == LOWEST:
        return "the least that is tried, as the validation side sets no bound to the confidence"
    if calibration.at_limit:
        return "the largest that is tried, as on the validation side confidence is of no use"
    if 1 / FAR_TEMPERATURE < temperature < FAR_TEMPERATURE:
        return "the model is about as sure as it may be"
    # The odds of 0.9 are 9 to 1.
    meant = 1 / (1 + 9 ** (-1 / temperature))
    verdict = "too sure of itself" if temperature > 1 else "too cautious"
    return f"the model is {verdict}; a said 0.9, against one other class, is rather {meant:.2f}"


def decision_lines(findings: Findings) -> Iterator[str]:
    """What the terminal says of thresholds and calibration, a line each."""
    for name, points in findings.decisions.items():
        point = points[0]
        whose = f"{name}: " if len(findings.decisions) > 1 else ""
        if math.isnan(point.threshold):
            yield f"{whose}no threshold: the validation side holds one class only"
            continue
        chosen = "" if point.rule not in RULES else f" ({point.name} on validation)"
        yield (
            f"{whose or f'positive class {name}: '}at the threshold {point.threshold:.2g}{chosen}: "
            f"test sensitivity {point.test['sensitivity']:.2f}, "
            f"specificity {point.test['specificity']:.2f}"
        )
    calibration = findings.calibration
    if calibration is not None:
        yield (
            f"temperature {calibration.temperature:.2f}: {about_temperature(calibration)}; "
            f"calibration error {calibration.before.ece:.3f}, "
            f"with it {calibration.after.ece:.3f}"
        )


def decision_warnings(findings: Findings) -> Iterator[str]:
    """What a reader of the model card should not overlook, in Markdown without a full stop."""
    for name, points in findings.decisions.items():
        point = points[0]
        if math.isnan(point.threshold):
            yield (
                f"no threshold for {escape_markdown(name)}: the validation side holds one class "
                "only"
            )
        moved = [
            f"{figure} is {point.val[figure]:.2f} on the validation side, but "
            f"{point.test[figure]:.2f} on the test side"
            for figure in _moved(point)
        ]
        if moved:
            yield (
                f"the threshold for {escape_markdown(name)} does not carry over as it is: "
                f"{', '.join(moved)}"
            )
    calibration = findings.calibration
    if calibration is not None and not (
        1 / FAR_TEMPERATURE < calibration.temperature < FAR_TEMPERATURE
    ):
        yield f"the temperature is {calibration.temperature:.3g}: {about_temperature(calibration)}"


def _moved(point: OperatingPoint) -> Iterator[str]:
    """The shares that differ between the sides by more than chance would have them."""
    for figure, counts in SHARES.items():
        apart = abs(point.val[figure] - point.test[figure])
        if math.isnan(apart) or apart <= NOTABLE_MOVE:
            continue
        sides = (point.val, point.test)
        sizes = [sum(side[count] for count in counts) for side in sides]
        share = sum(side[counts[0]] for side in sides) / sum(sizes)
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
        cells = " | ".join(f"{value:.4f}" for value in (*of_val, *of_test))
        lines.append(f"| {name} | {point.threshold:.4g} | {cells} |")
    return "\n".join(lines)


def _said(name: str, point: OperatingPoint) -> str:
    escaped = escape_markdown(name)
    if math.isnan(point.threshold):
        return "No threshold can be chosen: the validation side holds one class only."
    if math.isinf(point.threshold):
        return f"No sample is called {escaped}."
    return f"From a probability of {point.threshold:.4g} on a sample is called {escaped}."


def _about_rule(point: OperatingPoint) -> str:
    if point.rule not in RULES:
        return "The threshold is 0.5: no rule is to choose another."
    aim = RULES[point.rule].aim
    return f"The threshold is chosen on the validation side by the rule `{point.name}`: {aim}."


def _title(figure: str) -> str:
    return TITLES.get(figure, figure.replace("_", " "))


def _cell(figure: str, value: float) -> str:
    return f"{value:.0f}" if figure in COUNTS else f"{value:.4f}"
