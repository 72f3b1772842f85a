"""Each method against what it must give on models whose attributions can be written down."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
import torch
from captum.attr import FeatureAblation, GradientShap

from engine.explain.attribution import attribute
from engine.explain.attribution_methods import FUNCTIONS, Inputs, log_odds
from engine.explain.attribution_options import METHODS
from models import MeanLinear, TFTMultimodal
from tests.engine.attributed import COVARIATES, POINTS, SCANS, Weighted, make_batch

WINDOW = 12


@pytest.fixture
def batch():
    return make_batch()


def weights_of(model, output=0):
    return model.points.weight.detach()[output], model.covariates.weight.detach()[output]


def by_windows(spectra):
    """Each window's sum, spread evenly over its points."""
    windows = spectra.unflatten(-1, (-1, WINDOW))
    return windows.mean(dim=-1, keepdim=True).expand_as(windows).flatten(-2)


@pytest.mark.parametrize("method", ["integrated_gradients", "input_x_gradient"])
def test_on_a_sum_each_input_adds_its_weight_times_itself(batch, method):
    model = Weighted()
    points, covariates = weights_of(model)
    found = attribute(model, batch, 0, method)
    expected = batch.spectra * points * batch.mask[..., None]
    torch.testing.assert_close(found.spectra, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.tabular, batch.tabular * covariates, atol=1e-5, rtol=0)


def test_saliency_is_the_weight(batch):
    model = Weighted()
    points, covariates = weights_of(model)
    found = attribute(model, batch, 0, "saliency")
    assert torch.equal(found.spectra, points * batch.mask[..., None])
    assert torch.equal(found.tabular, covariates.expand(len(SCANS), -1))


def test_gradient_shap_starts_from_the_references_scans_in_turn(batch):
    model, reference = Weighted(), make_batch(5, counts=(2,))
    points, covariates = weights_of(model)
    found = attribute(model, batch, 0, "gradient_shap", references=reference, steps=7)
    turns = reference.spectra[0, [0, 1, 0]]
    expected = (batch.spectra - turns) * points * batch.mask[..., None]
    torch.testing.assert_close(found.spectra, expected, atol=1e-5, rtol=0)
    expected = (batch.tabular - reference.tabular) * covariates
    torch.testing.assert_close(found.tabular, expected, atol=1e-5, rtol=0)
    assert found.gap is not None
    assert found.gap.abs().max() < 1e-5


@pytest.mark.slow
def test_gradient_shap_approaches_the_mean_reference(batch):
    model, references = Weighted(), make_batch(5, counts=(3, 3, 3, 3, 3))
    points, _ = weights_of(model)
    found = attribute(model, batch, 0, "gradient_shap", references=references, steps=4000)
    expected = (batch.spectra - references.spectra.mean(dim=0)) * points * batch.mask[..., None]
    torch.testing.assert_close(found.spectra, expected, atol=0.05, rtol=0)


def test_padding_of_a_reference_is_never_a_baseline(batch):
    model, references = Weighted(), make_batch(5, counts=(1, 3))
    found = attribute(model, batch, 0, "gradient_shap", references=references, steps=9)
    references.spectra[~references.mask] = float("nan")
    again = attribute(model, batch, 0, "gradient_shap", references=references, steps=9)
    assert torch.equal(again.spectra, found.spectra)


def test_gradient_shap_is_captums(batch):
    torch.manual_seed(1)
    model = TFTMultimodal(COVARIATES, POINTS, patch_size=16, d_model=16, num_layers=1).eval()
    one = Inputs(batch.spectra, batch.mask, batch.tabular).rows(slice(0, 1))
    references = make_batch(5, counts=(3, 3, 3))
    found = attribute(model, one, 1, "gradient_shap", references=references, steps=20, seed=3)

    def forward(spectra, tabular):
        return model(spectra, one.mask.expand(len(spectra), -1), tabular)["logits"]

    np.random.seed((3, 0))
    spectra, tabular = GradientShap(forward).attribute(
        (one.spectra, one.tabular),
        (references.spectra, references.tabular),
        n_samples=20,
        target=1,
    )
    torch.testing.assert_close(found.spectra, spectra, atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(found.tabular, tabular, atol=1e-6, rtol=1e-4)


def test_the_seed_decides_what_gradient_shap_draws(batch):
    model = Weighted()
    options: dict[str, Any] = {"method": "gradient_shap", "steps": 3, "references": make_batch(5)}
    first, second, other = (attribute(model, batch, 0, seed=s, **options) for s in (1, 1, 2))
    assert torch.equal(first.spectra, second.spectra)
    assert not torch.equal(first.spectra, other.spectra)


def test_ablation_is_the_loss_of_score_per_region(batch):
    model = Weighted()
    points, covariates = weights_of(model)
    start = (torch.full((POINTS,), 0.5), torch.ones(COVARIATES))
    found = attribute(model, batch, 0, "feature_ablation", window=WINDOW, baseline=start)
    effect = (batch.spectra - 0.5) * points * batch.mask[..., None]
    shares = batch.mask[..., None] / batch.mask.sum(dim=1)[:, None, None]
    expected = by_windows(effect.sum(dim=1, keepdim=True)) * shares
    torch.testing.assert_close(found.spectra, expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.tabular, (batch.tabular - 1) * covariates, atol=1e-5, rtol=0)


def test_ablation_per_scan_distinguishes_the_scans(batch):
    model = Weighted()
    points, _ = weights_of(model)
    found = attribute(model, batch, 0, "feature_ablation", window=WINDOW, per_scan=True)
    expected = by_windows(batch.spectra * points * batch.mask[..., None])
    torch.testing.assert_close(found.spectra, expected, atol=1e-5, rtol=0)


def test_the_last_window_may_be_narrower(batch):
    model = Weighted()
    points, _ = weights_of(model)
    found = attribute(model, batch, 0, "feature_ablation", window=20, per_scan=True)
    tail = (batch.spectra * points * batch.mask[..., None])[..., 40:]
    expected = tail.mean(dim=-1, keepdim=True).expand_as(tail)
    torch.testing.assert_close(found.spectra[..., 40:], expected, atol=1e-5, rtol=0)


def test_ablation_agrees_with_captum_called_by_hand(batch):
    torch.manual_seed(1)
    model = TFTMultimodal(COVARIATES, POINTS, patch_size=16, d_model=16, num_layers=1).eval()
    found = attribute(model, batch, 1, "feature_ablation", window=WINDOW, rows=5)
    windows = (torch.arange(POINTS) // WINDOW).expand(1, max(SCANS), POINTS)
    spectra, tabular = FeatureAblation(lambda s, t, m: model(s, m, t)["logits"]).attribute(
        (batch.spectra * batch.mask[..., None], batch.tabular),
        target=1,
        additional_forward_args=batch.mask,
        feature_mask=(windows, 4 + torch.arange(COVARIATES)[None]),
    )
    # Captum writes a window's whole effect to each of its points.
    whole = found.spectra.sum(dim=1) * WINDOW
    torch.testing.assert_close(whole, spectra[:, 0], atol=1e-5, rtol=0)
    torch.testing.assert_close(found.tabular, tabular, atol=1e-5, rtol=0)


def test_every_name_has_its_function():
    assert tuple(FUNCTIONS) == METHODS


def test_completeness_is_reported_for_methods_that_have_it(batch):
    model = Weighted()
    for method in METHODS:
        found = attribute(model, batch, 0, method, references=make_batch(5))
        assert (found.change is None) == (method in ("input_x_gradient", "saliency"))
        assert (found.gap is None) != (method in ("integrated_gradients", "gradient_shap"))
        if found.change is not None:
            summed = found.spectra.sum(dim=(1, 2)) + found.tabular.sum(dim=1)
            torch.testing.assert_close(summed, found.change, atol=1e-4, rtol=0)


def test_without_covariates_nothing_is_warned_of(batch):
    batch.tabular = torch.zeros(len(SCANS), 0)
    model = MeanLinear(POINTS)
    for method in METHODS:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            found = attribute(model, batch, 0, method, steps=3)
        assert found.tabular.shape == (len(SCANS), 0)
        assert (found.spectra != 0).any()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
@pytest.mark.parametrize("method", METHODS)
def test_on_a_gpu_the_same_is_found(batch, method):
    torch.manual_seed(1)
    model = TFTMultimodal(COVARIATES, POINTS, patch_size=16, d_model=16, num_layers=1)
    references = make_batch(5, counts=(3, 3, 3))
    options: dict[str, Any] = {"method": method, "steps": 8, "seed": 1, "window": WINDOW}
    here = attribute(model, batch, 1, references=references, **options)
    there = attribute(model.cuda(), batch.to("cuda"), 1, references=references, **options)
    assert there.spectra.device.type == "cuda"
    torch.testing.assert_close(there.spectra.cpu(), here.spectra, atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(there.tabular.cpu(), here.tabular, atol=1e-4, rtol=1e-3)
    if here.change is not None:
        assert there.change is not None
        torch.testing.assert_close(there.change.cpu(), here.change, atol=1e-4, rtol=1e-3)


def test_log_odds_are_against_the_other_classes():
    assert log_odds(torch.tensor([[1.0, 4.0]])).tolist() == [[-3.0, 3.0]]
