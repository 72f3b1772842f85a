from __future__ import annotations

import math

import numpy as np
import torch

from engine.metrics import AttentionSummary, MeanWeights, ScanWeights
from experiments.report.figures.attention import MOST_CELLS, weight_sections

COVARIATES = ["age", "sex", "CRP"]


def sections(over_scans=None, means=None):
    found = weight_sections(AttentionSummary(5, over_scans or {}, means or {}), COVARIATES)
    return {section.heading: section for section in found}


def test_a_model_without_attention_has_a_sentence_that_says_so():
    (section,) = weight_sections(AttentionSummary())
    assert section.figure is None
    assert "returns no attention_weights" in section.text


def test_effective_scans_are_drawn_over_the_scans_there_are():
    weights = ScanWeights(torch.tensor([math.log(2), 0.0, 0.5]).double(), torch.tensor([2, 1, 3]))
    section = sections({"scan_pooling": weights})["Scan pooling: over the scans of a sample"]
    box, equal, relative = section.figure.data
    assert list(box.x) == [2, 1, 3]
    np.testing.assert_allclose(box.y, [2, 1, math.exp(0.5)])
    assert list(equal.x) == [1, 3]
    # A sample with one scan has no choice, and says nothing of how it would spread.
    np.testing.assert_allclose(relative.x, [1, 0.5 / math.log(3)])
    assert "Samples with several scans: 2.50 scans on average" in section.text


def test_samples_of_one_scan_each_are_drawn_and_said():
    weights = ScanWeights(torch.zeros(2).double(), torch.ones(2).long())
    (section,) = sections({"scan_pooling": weights}).values()
    assert "Every sample has one scan." in section.text


def test_covariates_are_named_and_sorted_by_their_weight():
    mean = MeanWeights(torch.tensor([0.2, 0.5, 0.3]).double(), ("covariate",))
    bars = sections(means={"feature_selection": mean})["Feature selection"].figure.data[0]
    assert list(bars.y) == ["sex", "CRP", "age"]


def test_there_is_a_matrix_a_head_with_named_rows_and_columns():
    torch.manual_seed(0)
    mean = MeanWeights(torch.rand(5, 2, 3).double(), ("head", "scan", "covariate"))
    section = sections(means={"spectra_to_tabular": mean})["Spectra to tabular"]
    heads = section.figure.data
    assert len(heads) == 5
    for head, trace in enumerate(heads):
        np.testing.assert_allclose(trace.z, mean.mean[head])
        assert list(trace.x) == COVARIATES
        assert list(trace.y) == ["scan 1", "scan 2"]
    assert section.figure.layout.coloraxis.cmin == 0
    assert "of each scan over the samples that have it" in section.text


def test_matrices_larger_than_a_screen_are_averaged_down():
    size = 4 * MOST_CELLS
    mean = MeanWeights(torch.rand(1, size, size).double(), ("head", "position", "position"))
    (trace,) = sections(means={"patch_attention_0": mean})["Patch attention 0"].figure.data
    assert np.shape(trace.z) == (MOST_CELLS, MOST_CELLS)
    np.testing.assert_allclose(trace.z[0][0], mean.mean[0, :4, :4].mean())


def test_gates_are_not_drawn_as_attention():
    gate = MeanWeights(torch.rand(5), ("position",))
    assert sections(means={"spectra_gate": gate}) == {}


def test_covariates_names_are_shown_as_text():
    mean = MeanWeights(torch.tensor([0.4, 0.6]).double(), ("covariate",))
    summary = AttentionSummary(5, {}, {"feature_selection": mean})
    (section,) = weight_sections(summary, ["<b>age</b>", "sex"])
    assert section.figure is not None
    assert "<b>" not in section.figure.to_json()
