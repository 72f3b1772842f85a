"""What the sections of a tested model say is said in Chinese too, whatever was found out."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.cohort import UNNAMED_AXIS
from engine.metrics import AttentionSummary, MeanWeights, ScanWeights
from experiments.analysis import TestAnalysis
from experiments.report.figures.attention import (
    MEANINGS,
    MOST_CELLS,
    agreement_section,
    gate_sections,
    weight_sections,
)
from experiments.report.figures.embeddings import plane_sections
from experiments.report.figures.figure_page import Section
from experiments.report.figures.importance import MOST_SAMPLES, summary_sections
from experiments.report.figures.sections import METHODS, importance_sections, shap_sections
from experiments.report.report_page import NO_ATTENTION, NO_VECTORS, NOT_EXPLAINED
from tests.experiments.report.made_examined import COVARIATES, make_examined
from tests.experiments.report.made_outputs import NAMES, SAMPLES, make_outputs
from tests.experiments.report.said_in_chinese import english_left
from tests.experiments.report.test_report_content import said

pytestmark = pytest.mark.slow

# An output of a model's, which has no other name.
OUTPUT = "attention_weights"
# Told by where they stand in the sentences: who found a method, and when.
AUTHORS = ("Erion", "Zeiler", "Fergus", "Shrikumar", "Simonyan", "Aumann", "Shapley")
KNOWN = (*COVARIATES, "&lt;b&gt;CRP&lt;/b&gt;", "cm-1", "NaN", OUTPUT, *AUTHORS)


def left_of(sections: Iterable[Section], *names: str) -> dict[str, str]:
    texts = [text for section in sections for text in said(section)]
    assert texts
    ids = [f"s{number}" for number in range(max(SAMPLES, MOST_SAMPLES + 1))]
    return english_left(texts, {*names, *KNOWN, *ids})


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("task", NAMES)
def test_attributions(task, method):
    examined = make_examined(task, method)
    places = [examined]
    if method == next(iter(METHODS)):  # what is said of places is the same of each method
        names = ("cm-1", UNNAMED_AXIS)
        places += [replace(examined, axis_name=name) for name in names]
        places.append(replace(examined, axis=None))
    for one in places:
        assert left_of(importance_sections(one), *NAMES[task]) == {}
        assert left_of(shap_sections(one), *NAMES[task]) == {}


def test_attributions_of_many_samples_and_of_no_feature():
    (feature,) = shap_sections(make_examined())[:1]
    assert feature.figure is not None
    ids = [f"s{number}" for number in range(MOST_SAMPLES + 1)]
    assert left_of(summary_sections([], ids, "the logit of case", "SHAP value", "")) == {}


@pytest.mark.parametrize("task", NAMES)
def test_samples_in_the_plane(task):
    outputs = make_outputs(task)
    vectors = np.random.default_rng(0).normal(size=(SAMPLES, 5))
    columns = {"plate": [f"plate{number // 2}" for number in range(SAMPLES)]}
    sections = plane_sections(vectors, outputs, NAMES[task], "embedding", columns)
    assert len(sections) == 3
    sets = {" + ".join(NAMES[task][:size]) for size in (2, 3)} | {"liver + lung", "heart + lung"}
    assert left_of(sections, *NAMES[task], *sets, "plate", *columns["plate"]) == {}


@pytest.mark.parametrize(
    "source",
    ["embedding", "logits", "spec_embedding", "tab_embedding", "spec_embedding and tab_embedding"],
)
def test_samples_that_have_no_plane(source):
    outputs, names = make_outputs("binary"), NAMES["binary"]
    few = make_outputs("binary", 9)
    same = np.ones((SAMPLES, 4))
    absent = [
        plane_sections(np.ones((2, 4)), make_outputs("binary", 2), names, source),
        plane_sections(same * np.nan, outputs, names, source),
        plane_sections(same, outputs, names, source),
        plane_sections(np.random.default_rng(0).normal(size=(9, 4)), few, names, source)[1:2],
    ]
    for sections in absent:
        assert sections[0].figure is None
        assert left_of(sections, *names) == {}


def weights_of(*axes: str, size: int = 3) -> MeanWeights:
    shape = [len(COVARIATES) if axis == "covariate" else size for axis in axes]
    return MeanWeights(torch.rand(shape).double(), axes, 0.2 * torch.ones(shape).double())


def test_attention_and_gates():
    spread = ScanWeights(torch.tensor([math.log(2), 0.0]).double(), torch.tensor([2, 1]))
    alone = ScanWeights(torch.zeros(2).double(), torch.ones(2).long())
    means = {
        "feature_selection": weights_of("covariate"),
        "patch_attention_0": weights_of("head", "position", "position"),
        "covariate_attention_1": weights_of("head", "covariate", "covariate"),
        "spectra_to_tabular": weights_of("head", "scan", "covariate"),
        "tabular_to_spectra": weights_of("covariate", "scan", size=MOST_CELLS + 1),
        "patch_pooling": weights_of("position", size=50),
        "position_pooling": weights_of("position"),
        "tabular_pooling": weights_of("covariate"),
        **{name: weights_of("position") for name in MEANINGS},
    }
    over_scans = {"scan_pooling": spread, "spectra_pooling": alone}
    summary = AttentionSummary(5, over_scans, means)
    sections = [
        *weight_sections(summary, COVARIATES),
        *weight_sections(summary),
        *weight_sections(AttentionSummary()),
        *gate_sections(summary, torch.linspace(0.01, 0.11, 101)),
    ]
    assert len(sections) == 2 * (2 + 8) + 1 + 1 + 2
    assert left_of(sections) == {}


@pytest.mark.parametrize("task", NAMES)
@pytest.mark.parametrize("sense", [1, -1, 0])
def test_whether_the_modalities_agree(task, sense):
    outputs = make_outputs(task)
    names = NAMES[task]
    section = agreement_section(outputs, names, (outputs.logits, sense * outputs.logits))
    assert left_of([section], *names) == {}


def test_what_was_not_found_out():
    assert english_left([NOT_EXPLAINED, NO_VECTORS, NO_ATTENTION], []) == {}
    nothing = replace(make_examined(), findings=TestAnalysis())
    assert importance_sections(nothing) == []
