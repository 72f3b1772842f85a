"""The report by class, thresholds, calibration, limitations and warnings as text."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import numpy as np
import pandas as pd
from sklearn.metrics import precision_recall_fscore_support

from datasets.covariates import MISSING
from datasets.messages import Message
from datasets.splits import SUBSETS
from engine.metrics import CLASSES, EpochOutputs
from engine.reporting import DIGITS, SHORT_DIGITS, figure_text, metric_message, share_text
from engine.statistics import COUNTS, LOWEST, RULES, Calibration, OperatingPoint

if TYPE_CHECKING:
    from experiments.analysis import Outcome, TestAnalysis

# What starts emphasis, code, links, HTML, table cells or entities inside a line (GFM 6.1).
CONTROL = re.compile(r"([\\`*_\[\]<>|~#$&!])")
SHORTEST_FENCE = 3


def escape_markdown(text: object) -> str:
    r"""A text that a Markdown reader shows as it is, in one line."""
    return CONTROL.sub(r"\\\1", " ".join(str(text).split()))


def fenced(text: str, language: str) -> str:
    """A block of code, behind a fence longer than any in the text itself."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(SHORTEST_FENCE, longest + 1)
    return f"{fence}{language}\n{text.rstrip()}\n{fence}"


HEAD = "| class | precision | recall | F1 | support |\n|---|---|---|---|---|"
# As scikit-learn calls them in a report, and what the Markdown table calls the averages.
FIGURES = ["precision", "recall", "f1-score"]
AVERAGES = {"macro avg": "macro average", "weighted avg": "weighted average"}


def class_figures(outputs: EpochOutputs, class_names: Sequence[str]) -> pd.DataFrame:
    """Precision, recall, F1 and support: a row for each class, ``macro avg``, ``weighted avg``.

    Undefined (NaN) is the precision of a class that is never predicted, the recall of one that does
    not occur, the F1 of one that does neither, and a macro average with one of them in it. To the
    weighted average, by support, a class that does not occur adds nothing.
    """
    if outputs.task == "regression":
        raise ValueError("a regression has no classes to report on")
    target, predicted = outputs.target.long().numpy(), outputs.predictions.numpy()
    labels = list(range(len(class_names)))
    if outputs.task == "multilabel" and len(class_names) == 1:
        # A single column is read as two classes, of which the label is the second.
        target, predicted, labels = target[:, 0], predicted[:, 0], [1]
    *shares, support = precision_recall_fscore_support(
        target, predicted, labels=labels, zero_division=math.nan
    )
    of_class = np.stack(shares, axis=1)  # [C, 3]
    occurs = support > 0
    weighted = support[occurs] @ of_class[occurs] / support.sum() if occurs.any() else math.nan
    rows = [*of_class, of_class.mean(axis=0), np.broadcast_to(weighted, of_class.shape[1:])]
    table = pd.DataFrame(rows, index=[*class_names, *AVERAGES], columns=FIGURES)
    total = int(support.sum())
    return table.assign(support=[*(int(number) for number in support), total, total])


def class_table(outputs: EpochOutputs, class_names: Sequence[str]) -> str:
    """:func:`class_figures` as a Markdown table."""
    table = class_figures(outputs, class_names)
    names = [*map(escape_markdown, class_names), *AVERAGES.values()]
    rows = zip(names, table[FIGURES].to_numpy(), table["support"], strict=True)
    return "\n".join([HEAD, *(_row(*row) for row in rows)])


def _row(name: str, shares: np.ndarray, support: int) -> str:
    return f"| {name} | {' | '.join(map(share_text, shares))} | {support} |"


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


def _cell(value: float, figure: str) -> str:
    return f"{value:.0f}" if figure in COUNTS else _share(value)


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


TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)
TEMPLATES.filters |= {
    "cell": _cell,
    "fenced": fenced,
    "figure": figure_text,
    "md": escape_markdown,
    "share": _share,
    "threshold": _threshold,
}
TEMPLATES.globals |= {
    "about_temperature": about_temperature,
    "is_infinite": math.isinf,
    "is_nan": math.isnan,
    "one_kind": one_kind,
    "reliability": RELIABILITY_FIGURES,
    "rules": RULES,
    "titles": TITLES,
}

# Below so many samples of a class, a metric of a subset moves by several hundredths by chance:
# the standard error of a sensitivity of 0.8 is 0.06 at 50 samples.
FEW = 50
# Up to 5 % of missing values are held to be of no consequence (Schafer 1999, Stat Methods Med Res).
NOTABLE_MISSING = 0.05
SIDE_SETS = {"val": "validation set", "test": "test set"}
# By how much a figure must move from validation to test for a warning, if it is also further
# than by chance: two standard errors of the difference of two shares.
NOTABLE_MOVE, STANDARD_ERRORS = 0.1, 2.0
# A share and the two counts it is of.
SHARES = {"sensitivity": ("tp", "fn"), "specificity": ("tn", "fp")}


def limits(outcome: Outcome) -> list[Message]:
    """Limitations of the run's numbers, whatever they are."""
    return [
        Message(
            "All samples come from one cohort, {}: performance on another instrument, site, "
            "protocol or population is unknown.",
            outcome.data.cohort.root.name,
        ),
        Message("One model was evaluated on one split: another split or seed gives other numbers."),
        Message("Subgroups (by sex, age or site) were not evaluated separately."),
        Message("An association that the model uses is not necessarily causal."),
    ]


def warnings_of(outcome: Outcome) -> Iterator[str]:
    """Warnings about the run's data and figures, without a full stop."""
    data, cohort = outcome.data, outcome.data.cohort
    for found in outcome.audit:
        if found.level != "note":
            told = found.sentence
            yield Message("{} (it was accepted)", told) if found.accepted else told
    for side in SUBSETS[1:]:
        yield from _few(outcome, side)
        undefined = [n for n in outcome.config.metric_names if np.isnan(outcome.results[side][n])]
        if undefined:
            names = list(map(metric_message, undefined))
            yield Message(f"undefined in the {SIDE_SETS[side]}: {{}}", names)
    intervals = outcome.intervals.items()
    unsure = [n for n, i in intervals if not np.isnan(i.value) and np.isnan(i.low)]
    if unsure:
        why = ""
        if outcome.test_groups == 1:
            why = ": the test set is one group"
        elif any(found.too_few for found in outcome.intervals.values()):
            why = ": too few samples"
        yield Message(f"no interval for {{}}{why}", list(map(metric_message, unsure)))
    yield from decision_warnings(outcome.findings, cohort.task)
    absent = cohort.samples[[*cohort.numeric, *cohort.categorical]].isna().mean()
    for column, share in absent[absent >= NOTABLE_MISSING].items():
        numeric = column in cohort.numeric
        mark = f"missing({column})" if numeric else f"{column}={MISSING}"
        indicated = "an" if mark in data.encoder.feature_names else "no"
        filled = ", filled with the training median" if numeric else ""
        told = f"missing in {{}} of the samples{filled}; the model has {indicated} indicator"
        yield Message(f"{{}} is {told} of missing values", column, f"{share:.0%}")


def _few(outcome: Outcome, side: str) -> Iterator[Message]:
    cohort = outcome.data.cohort
    targets = cohort.targets[outcome.data.split == side]
    told = f"fewer than {{}} samples in the {SIDE_SETS[side]}"
    if cohort.task == "regression":
        if len(targets) < FEW:
            yield Message("{}: {}", Message(told, FEW), len(targets))
        return
    names = cohort.class_names
    of_classes = cohort.task in CLASSES
    counts = np.bincount(targets, minlength=len(names)) if of_classes else targets.sum(axis=0)
    few = [Message("{} {}", *pair) for pair in zip(names, counts, strict=True) if pair[1] < FEW]
    if few:
        yield Message(told + ": {}", FEW, few)


def decision_warnings(findings: TestAnalysis, task: str = "binary") -> Iterator[Message]:
    """Warnings of the model card, without a full stop."""
    for name, points in findings.decisions.items():
        point = points[0]
        if math.isnan(point.threshold):
            yield Message(f"no threshold for {{}}: {one_kind(task)}", name)
        moved = []
        for figure in _moved(point):
            shares = (share_text(side[figure], 2) for side in (point.val, point.test))
            moved.append(Message("{} {} on validation, {} on test", Message(figure), *shares))
        if moved:
            yield Message("the threshold for {} does not transfer: {}", name, moved)
    calibration = findings.calibration
    if calibration is not None and not is_near_one(calibration.temperature):
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
