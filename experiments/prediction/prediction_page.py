"""The page of a prediction: drift, prediction sets, external validation, explained samples."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go

from datasets.messages import Message, sentences
from engine.metrics import CLASSES
from engine.reporting import bounds_text, figure_text, metric_message, share_text, with_bounds
from engine.statistics import Calibration, Interval, reliability
from experiments.analysis import DISTANCE, RESIDUAL
from experiments.prediction.drift import FAR_OUTSIDE
from experiments.prediction.explain import explained_sections
from experiments.prediction.external_validation import IN_THE_LARGE, SLOPE, headline
from experiments.report import Words
from experiments.report.figures import (
    GUIDE,
    LONGEST_ID,
    PALETTE,
    Section,
    add_menu,
    outcome_sections,
    reliability_section,
    shown_name,
    shown_names,
    write_figure_page,
)

if TYPE_CHECKING:
    from experiments.analysis import SpectralSummary
    from experiments.prediction.conformal import ConformalSets
    from experiments.prediction.drift import Compared, Drift
    from experiments.prediction.external_validation import Subgroup, Validation
    from experiments.prediction.predictions import Predictions
    from experiments.report.figures import ReportInput

TITLE = "{}: predictions of new samples"
PREDICTED, OUTSIDE_COLOUR = PALETTE[0], PALETTE[1]
ROW_HEIGHT, FRAME_HEIGHT, MENU_HEIGHT = 24, 120, 60  # in pixels
# Points of a figure; of more samples so many are drawn.
MOST_POINTS = 5000
# Comparisons that a reader looks up by name; windows and components are in the findings.
LISTED = ("missing", "number", "category", "predicted rate", "predicted value", DISTANCE, RESIDUAL)
AT_POINT = ("sensitivity", "specificity", "ppv", "npv")
ABOUT_DRIFT = (
    "Each comparison is of these samples with the training set, by Kolmogorov's and Smirnov's test "
    "or Fisher's; samples of one group count for less where groups differ. All comparisons "
    "together find something in 1% of cohorts like the training set; small differences are left "
    "out."
)
ABOUT_SETS = (
    "A set holds the true class of {} of the samples of each class, if new groups are like those "
    "that it was calibrated with: {}, one sample of each group for each class."
)
ABOUT_VALUES = (
    "An interval holds the true value of {} of the samples, if new groups are like those that it "
    "was calibrated with: {}, one sample of each group."
)
ABOUT_CURVE = (
    "Net benefit is the share of true positives less that of false ones, weighed by the odds of "
    "the threshold (Vickers and Elkin 2006); a model is of use where it is above both others. At "
    "a prevalence of {}."
)
ABOUT_CALIBRATION = (
    "Calibration in the large is what has to be added to the log-odds (of values: to the "
    "prediction) for the right mean, 0 if there is nothing to add; the slope is 1 if predictions "
    "are as far apart as they should be, below 1 if they are too extreme. Probabilities are the "
    "model's own, before temperature scaling."
)
ABOUT_POINT = (
    "The threshold was chosen on the run's validation set. Predictive values (ppv, npv) are at a "
    "prevalence of {}."
)
SMALL = "few groups"
ONE_GROUP = "They are one group: the uncertainty of the figures cannot be estimated."


@dataclass(frozen=True)
class PredictionPage:
    """What the page shows; a part is None where it was not asked for or does not apply.

    ``name`` is that of the run, ``model`` where it is.
    ``outside`` has the measures of each sample's spectrum, [N], and ``marked`` whether it is far
    outside of the training set. ``internal`` is of ``internal_source``, ``scans`` those of the
    ``explained`` samples, before the transforms.
    """

    name: str
    model: str
    language: str
    predictions: Predictions
    drift: Drift | str
    marked: np.ndarray
    outside: Mapping[str, np.ndarray] = field(default_factory=dict)
    spectra: SpectralSummary | None = None
    sets: ConformalSets | None = None
    calibrated_on: str = ""
    external: Validation | None = None
    internal: Validation | None = None
    internal_source: str = ""
    explained: ReportInput | None = None
    scans: np.ndarray | None = None


def write_prediction_page(path: Path, page: PredictionPage) -> Path:
    """Write the page, one file that asks the network for nothing."""
    predictions = page.predictions
    counts = len(predictions), len(np.unique(predictions.groups))
    lead = Message("{} samples (groups: {}), predicted by {}.", *counts, page.model)
    notes = [Message("{}.", Message(note).capitalized) for note in predictions.notes]
    sections = list(sections_of_page(page))
    title, words = Message(TITLE, page.name), Words(page.language, _names_of(page))
    return write_figure_page(path, title, sentences(lead, *notes), sections, words)


def _names_of(page: PredictionPage) -> set[str]:
    """The user's names on the page, which are not translated."""
    names = {page.name, page.model, *page.predictions.class_names}
    if not isinstance(page.drift, str):
        names |= {of.name for of in page.drift.compared if of.kind in ("number", "missing")}
    if page.external is not None:
        names |= {of.column for of in page.external.subgroups}
    return names if page.explained is None else names | set(page.explained.outputs.sample_id)


def sections_of_page(page: PredictionPage) -> Iterator[Section]:
    """The parts of the page, in their order."""
    yield from _drift_sections(page)
    if page.sets is not None:
        yield _sets_section(page, page.sets)
    if page.external is not None:
        yield from _validation_sections(page, page.external)
    else:
        yield Section("predicted", "Predictions", _predicted(page.predictions))
    if page.explained is not None:
        assert page.scans is not None
        yield from explained_sections(page.explained, page.scans)


def _drift_sections(page: PredictionPage) -> Iterator[Section]:
    if isinstance(page.drift, str):
        yield Section("drift", "Drift", text=Message("{}.", page.drift))
        return
    findings = page.drift.findings
    told = [Message("{}.", finding) for finding in findings]
    count = int(page.marked.sum())
    marked = Message(
        "{} of {} samples are far outside of the training set (column {}).",
        *(count, len(page.marked), FAR_OUTSIDE),
    )
    table: list[list[str]] = [["finding"]]
    table += [[text] for text in told]
    nothing = "" if told else "These samples are like those of the training set."
    yield Section("drift", "Drift", text=sentences(nothing, marked), table=table if told else None)
    rows = [
        [_named(of), *_compared(of), "yes" if of.found else ""]
        for of in page.drift.compared
        if of.kind in LISTED
    ]
    head = ["", "new samples", "training set", "difference", "spread", "p-value", "finding"]
    yield Section("compared", "Comparisons", text=ABOUT_DRIFT, table=[head, *rows])
    if page.spectra is not None and page.outside:
        yield Section("outside", "Distance and residual of spectra", _outside(page, page.spectra))


def _named(of: Compared) -> str:
    known = {"missing": "{}, missing", "predicted rate": "{}, predicted rate"}
    known |= {
        "predicted value": "{}, predicted value",
        DISTANCE: "spectra: {}",
        RESIDUAL: "spectra: {}",
    }
    own = Message(of.name) if of.kind in (DISTANCE, RESIDUAL) else of.name
    return Message(known.get(of.kind, "{}"), own)


def _compared(of: Compared) -> list[str]:
    found = of.difference
    shares = of.kind in ("missing", "category", "predicted rate")
    write = (lambda value: f"{value:.1%}") if shares else (lambda value: figure_text(value, 3))
    unit = "{:+.1f} pp" if shares else "{:+.2f} SD"
    apart = unit.format(100 * found.distance if shares else found.distance)
    spread = "" if math.isnan(found.spread) else f"x {found.spread:.2f}"
    p_value = "< 1e-6" if found.p_value < 1e-6 else f"{found.p_value:.2g}"
    return [write(found.new), write(found.old), apart, spread, p_value]


def _outside(page: PredictionPage, spectra: SpectralSummary) -> go.Figure:
    """One point per sample, its spectrum's distance and residual, and the limits of both."""
    both = [page.outside[name] / math.log(10) for name in (DISTANCE, RESIDUAL)]
    limits = [spectra.limits[name] / math.log(10) for name in (DISTANCE, RESIDUAL)]
    rows = _drawn(len(page.marked))
    figure = go.Figure()
    for name, marked, colour in (
        ("like the training set", False, PREDICTED),
        ("far outside", True, OUTSIDE_COLOUR),
    ):
        own = rows[page.marked[rows] == marked]
        figure.add_scatter(
            x=both[0][own],
            y=both[1][own],
            mode="markers",
            name=name,
            text=[shown_name(page.predictions.sample_ids[row], LONGEST_ID) for row in own],
            hovertemplate="%{text}: %{x:.2f}, %{y:.2f}<extra></extra>",
            marker={"color": colour, "opacity": 0.6, "size": 7},
        )
    figure.add_vline(x=limits[0], line=GUIDE)
    figure.add_hline(y=limits[1], line=GUIDE)
    figure.update_xaxes(title_text="log10 of the distance (Hotelling's T2)")
    figure.update_yaxes(title_text="log10 of the residual (Q)")
    return figure.update_layout(height=420)


def _drawn(samples: int) -> np.ndarray:
    return np.unique(np.linspace(0, samples - 1, min(samples, MOST_POINTS)).astype(np.int64))


def _sets_section(page: PredictionPage, sets: ConformalSets) -> Section:
    about = ABOUT_VALUES if sets.task == "regression" else ABOUT_SETS
    text = sentences(
        Message(about, f"{sets.coverage:.0%}", Message(page.calibrated_on)),
        *(Message("{}.", note) for note in sets.notes),
    )
    scores = page.predictions.outputs.scores.numpy()
    table = [["", "limit", "groups"]]
    for limit in sets.limits:
        value = "none" if math.isinf(limit.value) else figure_text(limit.value)
        table.append([limit.name, value, str(limit.groups)])
    labelled = page.predictions.labelled
    if len(labelled):
        head, rows = _coverage(page, sets)
        by_name = {row[0]: row[1:] for row in rows}
        table[0] += head
        table = [table[0], *([*row, *by_name.get(row[0], [""] * len(head))] for row in table[1:])]
        table += [[name, "", "", *cells] for name, cells in by_name.items() if name == ALL]
    figure = None if sets.task == "regression" else _set_sizes(page, sets, scores)
    return Section("sets", "Prediction sets", figure, text, table)


ALL = "all"
# Of sets, by the number of their classes.
SIZES = ("no class", "one class", "two classes")


def _coverage(page: PredictionPage, sets: ConformalSets) -> tuple[list[str], list[list[str]]]:
    """Observed coverage of labelled samples, by what has a limit and of all."""
    labelled = page.predictions.labelled
    outputs = page.predictions.outputs.take(labelled.tolist())
    covered = sets.covered(outputs.scores.numpy(), outputs.target.numpy())
    groups = page.predictions.groups[labelled]
    target = outputs.target.numpy()
    rows = []
    for number, name in enumerate(sets.names):
        if sets.task in CLASSES:
            rows.append([name, *_share_of(covered[target == number], groups[target == number])])
        elif sets.task == "regression":
            rows.append([name, *_share_of(covered[:, number], groups)])
        else:
            for state, told in enumerate(("without {}", "with {}")):
                own = (target[:, number] > 0) == bool(state)
                rows.append([Message(told, name), *_share_of(covered[own, number], groups[own])])
    if sets.task in CLASSES:
        rows.append([ALL, *_share_of(covered, groups)])
    return ["observed coverage", "with groups counted equally", "labelled samples"], rows


def _share_of(covered: np.ndarray, groups: np.ndarray) -> list[str]:
    if not len(covered):
        return ["undefined", "undefined", "0"]
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    by_group = float((np.bincount(number, weights=covered) / counts).mean())
    return [f"{covered.mean():.1%}", f"{by_group:.1%}", str(len(covered))]


def _set_sizes(page: PredictionPage, sets: ConformalSets, scores: np.ndarray) -> go.Figure:
    """How many classes the sets have, by predicted class (of labels by label)."""
    inside = sets.inside(scores)
    if sets.task == "multilabel":
        sizes, kinds = inside.sum(axis=2), range(len(sets.names))
        members = [np.ones(len(sizes), dtype=bool)] * len(sets.names)
        each = [sizes[:, kind] for kind in kinds]
    else:
        predicted = scores.argmax(axis=1)
        each = [inside.sum(axis=1)] * len(sets.names)
        members = [predicted == number for number in range(len(sets.names))]
    names = shown_names(sets.names)
    figure = go.Figure()
    for size in range(int(max(own.max(initial=0) for own in each)) + 1):
        shares = [
            float((own[of] == size).mean()) if of.any() else 0.0
            for own, of in zip(each, members, strict=True)
        ]
        name = SIZES[size] if size < len(SIZES) else Message("{} classes", size)
        figure.add_bar(
            y=names,
            x=shares,
            orientation="h",
            name=name,
            marker={"color": PALETTE[(size + 6) % len(PALETTE)] if size != 1 else PALETTE[2]},
            hovertemplate="%{y}: %{x:.1%}",
        )
    figure.update_xaxes(title_text="share of the samples predicted so", tickformat=".0%")
    figure.update_yaxes(type="category", autorange="reversed", automargin=True)
    figure.update_layout(barmode="stack", height=FRAME_HEIGHT + 2 * ROW_HEIGHT * len(names))
    return figure


def _predicted(predictions: Predictions) -> go.Figure:
    """Histograms of the predicted probabilities, or values."""
    scores = predictions.outputs.scores.numpy()
    first = 1 if predictions.task == "binary" else 0
    figure = go.Figure()
    for number, name in enumerate(predictions.class_names[first:], start=first):
        counts, edges = np.histogram(
            scores[:, number], 40, None if predictions.task == "regression" else (0.0, 1.0)
        )
        figure.add_bar(
            x=(edges[1:] + edges[:-1]) / 2,
            y=counts,
            width=np.diff(edges),
            name=shown_name(name),
            marker={"color": PALETTE[number % len(PALETTE)]},
            opacity=0.7,
            hovertemplate="%{x:.3g}: %{y} samples",
        )
    what = "predicted value" if predictions.task == "regression" else "predicted probability"
    figure.update_xaxes(title_text=what)
    figure.update_yaxes(title_text="samples")
    return figure.update_layout(height=380, barmode="overlay", showlegend=True)


def _validation_sections(page: PredictionPage, external: Validation) -> Iterator[Section]:
    internal = page.internal
    counts = len(external.groups), len(set(external.groups))
    text = sentences(Message("{} labelled samples (groups: {}).", *counts))
    if counts[1] == 1:
        text = sentences(text, ONE_GROUP)
    elif external.resamples:
        drawn = "In brackets 95% intervals, groups drawn {} times."
        text = sentences(text, Message(drawn, external.resamples))
    head = ["", "these samples", *([page.internal_source] if internal else [])]
    rows = [
        [metric_message(name), with_bounds(figure), *_beside(internal, "metrics", name)]
        for name, figure in external.metrics.items()
    ]
    yield Section("validation", "External validation", text=text, table=[head, *rows])
    if external.calibration:
        yield _calibration_section(page, external, head)
    predictions, labelled = page.predictions, page.predictions.labelled
    if predictions.calibrated is not None and predictions.temperature is not None:
        own = predictions.calibrated[labelled.tolist()]
        before, after = (
            reliability(scores, external.outputs.target)
            for scores in (external.outputs.scores, own)
        )
        calibrated = Calibration(predictions.temperature, before, after, predictions.task)
        yield reliability_section(calibrated, predictions.task, external.names)
    if external.points:
        yield _points_section(external, internal, page.internal_source)
    if external.curves:
        yield _curves_section(external)
    if external.subgroups:
        yield _subgroups_section(external)
    yield from outcome_sections(external.outputs, external.names)


def _beside(internal: Validation | None, part: str, *names: str) -> list[str]:
    """The run's own figure, where it has one."""
    if internal is None:
        return []
    found: Any = getattr(internal, part)
    for name in names:
        found = found.get(name) if found is not None else None
    return ["" if found is None else with_bounds(found)]


def _calibration_section(
    page: PredictionPage, external: Validation, head: Sequence[str]
) -> Section:
    rows = []
    for name, figures in external.calibration.items():
        for part in (IN_THE_LARGE, SLOPE):
            beside = _beside(page.internal, "calibration", name, part)
            several = len(external.calibration) > 1
            title = Message("{}: {}", name, Message(part)) if several else Message(part)
            rows.append([title, with_bounds(figures[part]), *beside])
    return Section("calibration", "Calibration", text=ABOUT_CALIBRATION, table=[head, *rows])


def _points_section(external: Validation, internal: Validation | None, source: str) -> Section:
    own = {point.name: point for point in internal.points} if internal else {}
    head = ["", *(Message("{}, these samples", Message(name)) for name in AT_POINT)]
    head += (
        [Message("{}, {}", Message(name), Message(source)) for name in AT_POINT[:2]] if own else []
    )
    rows, shares = [], []
    for point in external.points:
        title = Message("{}: {} ({})", point.name, figure_text(point.threshold), point.rule)
        cells: list[str] = [with_bounds(point.figures[name]) for name in AT_POINT]
        if own:
            beside = own.get(point.name)
            figures = {} if beside is None else beside.figures
            cells += [with_bounds(figures[n]) if figures else "" for n in AT_POINT[:2]]
        rows.append([title, *cells])
        shares.append(share_text(point.prevalence, 3))
    text = Message(ABOUT_POINT, list(dict.fromkeys(shares)))
    return Section("points", "Operating point of training", text=text, table=[head, *rows])


def _curves_section(external: Validation) -> Section:
    figure, belongs = go.Figure(), []
    for number, curve in enumerate(external.curves):
        lines = (
            ("the model", curve.model, {"color": PREDICTED}),
            ("treat all", curve.treat_all, {"color": OUTSIDE_COLOUR, "dash": "dash"}),
            ("treat none", np.zeros_like(curve.model), GUIDE),
        )
        for name, values, line in lines:
            figure.add_scatter(x=curve.thresholds, y=values, mode="lines", name=name, line=line)
            belongs.append(number)
    if len(external.curves) > 1:
        add_menu(figure, [curve.name for curve in external.curves], belongs)
    top = max(float(curve.treat_all.max()) for curve in external.curves)
    figure.update_xaxes(title_text="threshold of the probability", range=[0, 1])
    figure.update_yaxes(title_text="net benefit", range=[-0.15 * max(top, 0.1), 1.1 * top])
    figure.update_layout(height=420, hovermode="x")
    shares = [share_text(point.prevalence, 3) for point in external.points] or ["these samples"]
    text = Message(ABOUT_CURVE, list(dict.fromkeys(shares)))
    return Section("benefit", "Decision curve", figure, text)


def _subgroups_section(external: Validation) -> Section:
    metric = headline(external.outputs)
    further = [name for name in external.subgroups[0].figures if name != metric]
    head = ["subgroup", "samples", "groups", metric_message(metric), *further, ""]
    rows = [_subgroup(of, [metric, *further]) for of in external.subgroups]
    text = (
        "Figures of few groups say little: differences between subgroups are then most likely "
        "chance. Intervals are not corrected for the number of subgroups."
    )
    figure = _forest(external.subgroups, metric, external.metrics[metric])
    return Section("subgroups", "Subgroups", figure, text, [head, *rows])


def _subgroup(of: Subgroup, names: Sequence[str]) -> list[str]:
    cells = [with_bounds(of.figures.get(name, Interval(math.nan))) for name in names]
    title = f"{of.column}: {of.value}"
    return [title, str(of.samples), str(of.groups), *cells, SMALL if of.few else ""]


def _forest(subgroups: Sequence[Subgroup], metric: str, whole: Interval) -> go.Figure:
    """The metric of each subgroup with its interval, and a line at that of all samples."""
    names = shown_names(f"{of.column}: {of.value} ({of.samples})" for of in subgroups)
    figures = [of.figures[metric] for of in subgroups]
    figure = go.Figure()
    figure.add_scatter(
        x=[None if math.isnan(of.value) else of.value for of in figures],
        y=names,
        mode="markers",
        text=[f"{figure_text(of.value)} {bounds_text(of)}" for of in figures],
        hovertemplate="%{y}: %{text}<extra></extra>",
        marker={
            "size": 9,
            "color": PREDICTED,
            "symbol": ["circle-open" if of.few else "circle" for of in subgroups],
        },
        error_x={
            "symmetric": False,
            "array": [of.high - of.value for of in figures],
            "arrayminus": [of.value - of.low for of in figures],
            "color": "grey",
        },
    )
    if not math.isnan(whole.value):
        figure.add_vline(x=whole.value, line=GUIDE)
    figure.update_xaxes(title_text=metric_message(metric))
    figure.update_yaxes(type="category", autorange="reversed", automargin=True, dtick=1)
    return figure.update_layout(height=FRAME_HEIGHT + ROW_HEIGHT * len(names))
