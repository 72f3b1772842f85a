from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from engine.metrics import AttentionSummary, EpochOutputs, MeanWeights, ScanWeights
from experiments.report.figures.attention import (
    MOST_CELLS,
    agreement_section,
    gate_sections,
    weight_sections,
)
from tests.experiments.report.made_outputs import NAMES, SAMPLES, make_outputs


def summary(**means):
    return AttentionSummary(SAMPLES, {}, means)


def drawn(section):
    """The figure of a section that has one."""
    assert section.figure is not None
    return section.figure


def test_movement_is_drawn_and_said():
    movement = torch.linspace(0.01, 0.11, 101)
    (section,) = gate_sections(summary(), movement)
    np.testing.assert_allclose(drawn(section).data[0].x, movement)
    assert "6.0% of its length (median; 80% of the samples: 2.0% to 10.0%)" in section.text


def test_a_gates_features_are_sorted_with_their_spread():
    found = MeanWeights(torch.tensor([0.2, 0.9, 0.5]), ("position",), torch.tensor([0.0, 0.2, 0.1]))
    (section,) = gate_sections(summary(spectra_gate=found))
    band, mean = drawn(section).data
    np.testing.assert_allclose(mean.y, [0.9, 0.5, 0.2], rtol=1e-6)
    assert list(mean.text) == ["feature 2", "feature 3", "feature 1"]
    np.testing.assert_allclose(band.y, [1.1, 0.6, 0.2, 0.2, 0.4, 0.7], rtol=1e-6)
    assert "0.53 on average" in section.text
    assert "over the samples is 0.100" in section.text
    assert "above 0.1 for 1 of 3 features" in section.text


def test_weights_that_are_no_gate_are_left_to_others():
    weights = MeanWeights(torch.tensor([0.2, 0.8]), ("covariate",))
    assert gate_sections(summary(feature_selection=weights)) == []


@pytest.fixture
def outputs():
    return make_outputs("binary")


def heads_that_say(*said):
    """Logits of two heads that are sure of the given classes."""
    return tuple(4.0 * torch.eye(2)[torch.as_tensor(one)] for one in said)


def test_heads_that_always_say_the_same_agree(outputs):
    heads = heads_that_say(outputs.target, outputs.target)
    assert "agree on 100% of the samples" in agreement_section(outputs, ["a", "b"], heads).text


def test_who_is_right_where_they_differ_is_said(outputs):
    wrong = 1 - outputs.target
    differing = torch.where(torch.arange(SAMPLES) < 10, wrong, outputs.target)
    section = agreement_section(outputs, ["a", "b"], heads_that_say(outputs.target, differing))
    final = (outputs.predictions == outputs.target)[:10].float().mean()
    assert "agree on 67% of the samples" in section.text
    assert "the spectra head is right in 100%, the covariates head in 0%" in section.text
    assert f"the whole model in {final:.0%}" in section.text


@pytest.mark.parametrize("task", sorted(NAMES))
def test_both_heads_scores_of_every_sample_are_drawn(task):
    outputs = make_outputs(task)
    torch.manual_seed(1)
    heads = (outputs.logits, torch.randn_like(outputs.logits))
    section = agreement_section(outputs, NAMES[task], heads)
    shown = [sample for trace in drawn(section).data for sample in trace.text]
    assert set(shown) == set(outputs.sample_id)
    if task == "regression":
        found = torch.corrcoef(torch.stack([head[:, 0] for head in heads]))[0, 1]
        assert f"age {found:.2f}" in section.text
    else:
        assert max(max(trace.x) for trace in drawn(section).data) <= 1


@pytest.mark.parametrize("task", ["multilabel", "regression"])
def test_outputs_that_are_not_shown_are_said(task):
    values = torch.rand(SAMPLES, 9).round() if task == "multilabel" else torch.rand(SAMPLES, 9)
    outputs = EpochOutputs(
        torch.randn(SAMPLES, 9), values, list(map(str, range(SAMPLES))), {}, task
    )
    section = agreement_section(outputs, list("abcdefghi"), (outputs.logits, outputs.logits))
    what = {"multilabel": "labels", "regression": "targets"}[task]
    assert f"Shown: the first 7 of 9 {what}." in section.text


def test_of_two_classes_the_positive_ones_probability_is_drawn(outputs):
    torch.manual_seed(1)
    heads = (torch.randn(SAMPLES, 2), torch.randn(SAMPLES, 2))
    section = agreement_section(outputs, ["control", "<b>case</b>"], heads)
    place = {
        s: x for trace in drawn(section).data for s, x in zip(trace.text, trace.x, strict=True)
    }
    expected = heads[0].softmax(dim=1)[:, 1]
    for sample, probability in zip(outputs.sample_id, expected, strict=True):
        assert place[sample] == pytest.approx(float(probability), rel=1e-5)
    assert "<b>" not in drawn(section).to_json()


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


def test_features_of_one_name_are_one_bar_of_their_sum_or_mean():
    names = ["age", "sex", "age"]
    means = {
        "covariate_pooling": MeanWeights(torch.tensor([0.2, 0.5, 0.3]).double(), ("covariate",)),
        "feature_selection": MeanWeights(torch.tensor([0.9, 0.5, 0.3]).double(), ("covariate",)),
    }
    found: list[Any] = weight_sections(AttentionSummary(5, {}, means), names)
    drawn = [section.figure.data[0] for section in found]
    shares, gate = (dict(zip(bars.y, bars.x, strict=True)) for bars in drawn)
    assert shares == pytest.approx({"age": 0.5, "sex": 0.5})
    assert gate == pytest.approx({"age": 0.6, "sex": 0.5})


def test_without_covariates_other_weights_are_drawn_as_they_are():
    mean = MeanWeights(torch.rand(1, 3, 3).double(), ("head", "position", "position"))
    (section,) = weight_sections(AttentionSummary(5, {}, {"patch_attention_0": mean}), [])
    np.testing.assert_allclose(drawn(section).data[0].z, mean.mean[0])


def test_features_of_one_name_are_one_row_and_one_column():
    weights = torch.tensor([[[0.1, 0.2, 0.7], [0.3, 0.3, 0.4], [0.5, 0.5, 0.0]]]).double()
    mean = MeanWeights(weights, ("head", "covariate", "covariate"))
    summary = AttentionSummary(5, {}, {"covariate_attention_0": mean})
    (section,) = weight_sections(summary, ["age", "sex", "age"])
    assert section.figure is not None
    (trace,) = section.figure.data
    assert list(trace.x) == list(trace.y) == ["age", "sex"]
    np.testing.assert_allclose(trace.z, [[(0.8 + 0.5) / 2, (0.2 + 0.5) / 2], [0.7, 0.3]])


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
