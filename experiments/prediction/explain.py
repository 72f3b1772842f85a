"""What the scores of new samples rest on, by the run's own method of attribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from datasets.cohort import UNNAMED_AXIS
from datasets.errors import UsageError
from datasets.loading import stop_workers
from datasets.messages import Message
from engine.explain import explain_outputs
from experiments.analysis import TestAnalysis
from experiments.builders import evaluation_loader
from experiments.prediction.placed_scans import placed_scans
from experiments.prediction.predictor import NetworkPredictor
from experiments.report.figures import (
    LONGEST_ID,
    PALETTE,
    ExplainedInputs,
    ReportInput,
    Section,
    add_menu,
    importance_sections,
    in_one_sense,
    shown_name,
    shown_names,
)

if TYPE_CHECKING:
    from experiments.prediction.fitted import NewCohort
    from experiments.prediction.loaded_model import LoadedModel
    from experiments.prediction.predictions import Predictions

INTEGRATED_GRADIENTS = "integrated_gradients"
# Blue and orange, as in a run's explorer of samples.
LOWERS, RAISES = PALETTE[:2]
SPECTRUM_HEIGHT, COVARIATE_HEIGHT = 480, 26  # in pixels
# Further covariates add little, and take the page.
MOST_COVARIATES = 15
SAMPLES = (
    "Choose a sample above the figure: its mean scan before the transforms, and below it what "
    "raises and what lowers the score, summed over its scans."
)


def check_explainable(model: LoadedModel, new: NewCohort, samples: int) -> None:
    """UsageError where there is no network to explain, no sample, or a modality is absent."""
    if samples < 1:
        raise UsageError(f"--explain: a number of samples from 1 on was expected, not {samples}")
    if not isinstance(model.predictors[0], NetworkPredictor):
        raise UsageError(f"--explain: {model.files.where} is a baseline, which has no gradient")
    if set(model.predictors[0].reads) & set(new.absent):
        raise UsageError("--explain: nothing is explained where a modality is absent")


def explain_samples(
    model: LoadedModel, new: NewCohort, predictions: Predictions, samples: int
) -> ReportInput:
    """Explain the first samples of a cohort; of several seeds the first network."""
    own = model.predictors[0]
    assert isinstance(own, NetworkPredictor)
    fitted, rows = model.fitted, np.arange(min(samples, len(predictions)))
    settings = fitted.config.report.attribution
    dataset = fitted.dataset(new, rows)
    loader = evaluation_loader(fitted.config, dataset)
    try:
        sets = explain_outputs(
            own.model,
            loader,
            method=settings.method or INTEGRATED_GRADIENTS,
            device=own.device,
            steps=settings.steps,
        )
    finally:
        stop_workers(loader)
    scans = placed_scans(model, new, rows)
    units = fitted.plain.get("units") or {}
    examined = ReportInput(
        outputs=predictions.outputs.take(rows.tolist()),
        classes=fitted.class_names,
        findings=TestAnalysis(explained=sets),
        covariates=fitted.encoder.feature_names,
        axis=fitted.transforms.axis if dataset.spec_len else None,
        axis_name=units.get("axis", UNNAMED_AXIS),
        inputs=ExplainedInputs(
            dataset.mean_scans(), dataset.tabular, scans.mean(axis=0), "mean raw intensity"
        ),
    )
    return examined.in_units_of(fitted.scaler)


def explained_sections(examined: ReportInput, scans: np.ndarray) -> list[Section]:
    """Sections of each sample, of ``scans`` [n, L], and of all explained samples together."""
    sections = []
    for explained in examined.findings.explained:
        output = int(explained.target[0])
        several = len(examined.findings.explained) > 1
        figure = sample_figure(examined, explained, scans)
        sections.append(
            Section(
                f"samples-{output}" if several else "samples",
                "Explained samples",
                figure,
                SAMPLES,
                choice=str(examined.classes[output]) if several else "",
            )
        )
    return [*sections, *importance_sections(examined)]


def sample_figure(examined: ReportInput, explained: Any, scans: np.ndarray) -> go.Figure:
    """A menu of the samples; of each its mean scan, its attributions, and its covariates."""
    found = in_one_sense(explained, examined)
    has_spectra = scans.shape[1] > 0
    names, totals = _by_covariate(examined, found.covariates)
    order = np.argsort(-np.abs(totals).mean(axis=0), kind="stable")[:MOST_COVARIATES]
    shown = shown_names([names[number] for number in order])
    rows = 2 * has_spectra + bool(shown)
    heights = [SPECTRUM_HEIGHT * share for share in (0.6, 0.4)] * has_spectra
    heights += [COVARIATE_HEIGHT * len(shown) + 60] * bool(shown)
    figure = make_subplots(rows, 1, row_heights=heights, vertical_spacing=70 / (sum(heights) + 200))
    axis = np.arange(scans.shape[1]) if examined.axis is None else examined.axis
    belongs: list[int] = []
    for sample in range(len(explained.sample_id)):
        traces: list[tuple[Any, int]] = []
        if has_spectra:
            line = {"color": "#8c8c8c", "width": 1.2}
            traces.append((_line(axis, scans[sample], "mean scan", line), 1))
            for words, side, colour in (
                ("raises the score", 1, RAISES),
                ("lowers the score", -1, LOWERS),
            ):
                part = np.where(side * found.points[sample] > 0, found.points[sample], 0)
                line = {"color": colour, "width": 1}
                traces.append((_line(axis, part, words, line, fill="tozeroy"), 2))
        if shown:
            own = totals[sample, order]
            colours = [RAISES if value > 0 else LOWERS for value in own]
            bars = go.Bar(
                x=own, y=shown, orientation="h", marker={"color": colours}, showlegend=False
            )
            traces.append((bars, rows))
        for trace, row in traces:
            figure.add_trace(trace, row=row, col=1)
            belongs.append(sample)
    labels = [shown_name(name, LONGEST_ID) for name in explained.sample_id]
    add_menu(figure, labels, belongs)
    if has_spectra:
        figure.update_yaxes(title_text="intensity", row=1)
        figure.update_yaxes(title_text="attribution", row=2)
        figure.update_xaxes(matches="x2", row=1, showticklabels=False)
        figure.update_xaxes(title_text=shown_name(examined.axis_name), row=2)
    if shown:
        figure.update_xaxes(title_text=Message("contribution to {}", found.what), row=rows)
        figure.update_yaxes(
            type="category", autorange="reversed", automargin=True, dtick=1, row=rows
        )
    return figure.update_layout(height=sum(heights) + 200)


def _by_covariate(examined: ReportInput, contributions: np.ndarray) -> tuple[list[str], np.ndarray]:
    """Names, and contributions [N, K] summed over the features of one name."""
    given: Sequence[str] = examined.covariates or ()
    names = list(dict.fromkeys(given))
    totals = np.zeros((len(contributions), len(names)))
    for number, name in enumerate(given):
        totals[:, names.index(name)] += contributions[:, number]
    return names, totals


def _line(x: np.ndarray, y: np.ndarray, name: str, line: dict[str, Any], **more: Any) -> go.Scatter:
    # float32 halves the page: Plotly writes arrays as their bytes.
    return go.Scatter(
        x=np.asarray(x, np.float32),
        y=np.asarray(y, np.float32),
        mode="lines",
        name=name,
        line=line,
        legendgroup=name,
        **more,
    )
