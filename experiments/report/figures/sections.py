"""The sections of a tested model's analysis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from datasets.messages import Message, sentences
from engine.explain import WIDTH, Explained, top_windows
from experiments.analysis import about_trees, about_unexplained
from experiments.report.figures.attention import agreement_section, gate_sections, weight_sections
from experiments.report.figures.embeddings import plane_sections
from experiments.report.figures.importance import (
    Attributions,
    covariate_features,
    feature_section,
    in_one_sense,
    spectrum_section,
    summary_sections,
    window_features,
)

if TYPE_CHECKING:
    from experiments.report.figures.figure_page import Section
    from experiments.report.figures.report_input import ReportInput

GRADIENT_SHAP, BY_PATH = "gradient_shap", "integrated_gradients"
WINDOWS, FEWEST_POINTS = 10, 5
MASS_AXIS = "m/z"
# How an attribution was made, and where that is told.
METHODS = {
    "integrated_gradients": "By integrated gradients (Sundararajan et al. 2017).",
    GRADIENT_SHAP: "By expected gradients, an estimate of SHAP values (Erion et al. 2021).",
    "feature_ablation": "By ablation of a region or a covariate (Zeiler and Fergus 2014).",
    "input_x_gradient": "By input times gradient (Shrikumar et al. 2016).",
    "saliency": "By the gradient at the input (Simonyan et al. 2014).",
}
NOT_SHAP = (
    "Attributions by integrated gradients, which distribute the score as SHAP values do (Aumann "
    "and Shapley 1974), along one path from an input of zeros."
)


def sections_of(examined: ReportInput, part: str) -> list[Section]:
    """``importance``, ``embedding`` or ``attention``, drawn once: t-SNE takes seconds."""
    draw = {
        "importance": importance_sections,
        "embedding": embedding_sections,
        "attention": attention_sections,
    }
    if part not in examined.drawn:
        examined.drawn[part] = draw[part](examined)
    return examined.drawn[part]


def embedding_sections(examined: ReportInput) -> list[Section]:
    """The samples in the plane; nothing where their vectors were not kept."""
    found = examined.findings
    if found.embedding is None:
        return []
    vectors, outputs, names = found.embedding.numpy(), examined.outputs, examined.classes
    return plane_sections(vectors, outputs, names, found.embedding_source, examined.columns)


def attention_sections(examined: ReportInput) -> list[Section]:
    """Attention, gates, and the agreement of the modalities."""
    found, sections = examined.findings, []
    if found.attention is not None:
        sections += weight_sections(found.attention, examined.covariates)
        sections += gate_sections(found.attention, found.gate)
    if found.heads is not None:
        sections.append(agreement_section(examined.outputs, examined.classes, found.heads))
    return sections


def importance_sections(examined: ReportInput) -> list[Section]:
    """Attributions over the spectrum and the covariates; nothing where nothing was explained."""
    sections = []
    for explained in examined.findings.explained:
        found, windows = _found(examined, explained)
        own = []
        if found.points.shape[1]:  # a cohort of covariates alone has no spectrum
            lead = sentences(METHODS.get(explained.method, ""), _not_explained(examined))
            own.append(spectrum_section(found, examined, lead, windows))
        for name, heading, features in (
            ("windows", "Regions of the spectrum", window_features(found, examined, windows)),
            ("covariates", "Covariates", covariate_features(found, examined)),
        ):
            if features:
                own.append(feature_section(name, heading, features, examined))
        sections += _to_choose(own, examined, explained)
    return sections


def shap_sections(examined: ReportInput) -> list[Section]:
    """Every explained sample's attributions of covariates and of the windows that say most."""
    sections = []
    for explained in examined.findings.explained:
        found, windows = _found(examined, explained)
        features = covariate_features(found, examined) + window_features(found, examined, windows)
        values = "SHAP value" if explained.method == GRADIENT_SHAP else "attribution"
        told = NOT_SHAP if explained.method == BY_PATH else METHODS.get(explained.method, "")
        note = sentences(told, _not_explained(examined))
        own = summary_sections(features, explained.sample_id, found.what, values, note)
        sections += _to_choose(own, examined, explained)
    return sections


def _to_choose(
    sections: Sequence[Section], examined: ReportInput, explained: Explained
) -> list[Section]:
    """Sections of one output; of several explained a reader chooses whose sections to see."""
    if len(examined.findings.explained) < 2:
        return list(sections)
    output = int(explained.target[0])
    choice = str(examined.classes[output])
    return [replace(s, name=f"{s.name}-{output}", choice=choice) for s in sections]


def _not_explained(examined: ReportInput) -> str:
    """Sentences where there are more outputs, or members, than are explained; or empty."""
    told = [about_unexplained(examined.findings), about_trees(examined.findings)]
    return sentences(*(Message("{}.", each.capitalized) for each in told if each))


def _found(
    examined: ReportInput, explained: Explained
) -> tuple[Attributions, list[tuple[int, int]]]:
    """The attributions in one sense, and the windows that account for most of the scores."""
    by = "magnitude" if explained.change is None else "share"
    length = explained.scans[0].shape[1]
    if not length:
        return in_one_sense(explained, examined), []
    axis = np.arange(length) if examined.axis is None else np.asarray(examined.axis, dtype=float)
    if examined.axis_name == MASS_AXIS and (np.diff(axis) > 0).all() and examined.axis is not None:
        windows = top_windows(explained, axis, WINDOWS, by=by)
    else:
        # Elsewhere nothing is known of how peaks' widths go with their places.
        points = np.arange(length)
        width = max(FEWEST_POINTS, length * WIDTH)
        windows = top_windows(explained, points, WINDOWS, width=width, unit="points", by=by)
    # What accounts for nothing is no finding, however few there are.
    shown = [(window.start, window.stop) for window in windows if window.value > 0]
    return in_one_sense(explained, examined), shown
