from __future__ import annotations

import warnings
from typing import Any

import pytest
import torch
from captum.attr import IntegratedGradients

from datasets.batches import Batch
from datasets.errors import UsageError
from engine.checkpointing import capture_rng
from engine.explain.attribution import attribute
from engine.explain.attribution_methods import Inputs
from engine.explain.attribution_options import METHODS
from models import SpectraOnly, TabularOnly, TFTMultimodal
from tests.engine.attributed import COVARIATES, POINTS, SCANS, Weighted, make_batch

SMALL: dict[str, Any] = {"patch_size": 16, "d_model": 16, "num_layers": 1}


@pytest.fixture
def batch() -> Batch:
    return make_batch()


@pytest.fixture
def model() -> TFTMultimodal:
    torch.manual_seed(1)
    return TFTMultimodal(COVARIATES, POINTS, num_classes=3, **SMALL)


def scores(model, batch, spectra, tabular, target):
    with torch.no_grad():
        logits = model.eval()(spectra, batch.mask, tabular)["logits"]
    return logits.gather(1, target[:, None])[:, 0]


def test_contributions_add_up_to_the_change_of_the_score(model, batch):
    found = attribute(model, batch, steps=200)
    summed = found.spectra.sum(dim=(1, 2)) + found.tabular.sum(dim=1)
    zero = scores(model, batch, 0 * batch.spectra, 0 * batch.tabular, found.target)
    change = scores(model, batch, batch.spectra, batch.tabular, found.target) - zero
    torch.testing.assert_close(summed, change, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.gap, summed - change, atol=1e-5, rtol=0)
    assert change.abs().max() > 0.01


def test_a_baseline_of_ones_own_is_what_contributions_start_from(batch):
    model, own = Weighted(), (torch.full((POINTS,), 0.5), torch.full((COVARIATES,), -1.0))
    found = attribute(model, batch, 1, baseline=own)
    expected = (batch.spectra - 0.5) * batch.mask[..., None] * model.points.weight[1]
    torch.testing.assert_close(found.spectra, expected.detach(), atol=1e-5, rtol=0)
    expected = (batch.tabular + 1) * model.covariates.weight[1]
    torch.testing.assert_close(found.tabular, expected.detach(), atol=1e-5, rtol=0)


@pytest.mark.parametrize("method", METHODS)
def test_padded_scans_get_exactly_nothing_and_change_nothing(model, batch, method):
    found = attribute(model, batch, 1, method)
    assert (found.spectra[~batch.mask] == 0).all()
    assert (found.spectra[batch.mask] != 0).any()
    batch.spectra[~batch.mask] = float("nan")
    again = attribute(model, batch, 1, method)
    torch.testing.assert_close(again.spectra, found.spectra)


def test_it_agrees_with_captum_called_by_hand(model, batch):
    model.eval()

    def forward(spectra, tabular, mask):
        return model(spectra, mask, tabular)["logits"]

    spectra, tabular = IntegratedGradients(forward).attribute(
        (batch.spectra * batch.mask[..., None], batch.tabular),
        target=2,
        additional_forward_args=batch.mask,
        n_steps=20,
    )
    found = attribute(model, batch, 2, steps=20)
    torch.testing.assert_close(found.spectra, spectra.float(), atol=1e-6, rtol=0)
    torch.testing.assert_close(found.tabular, tabular.float(), atol=1e-6, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("rows", [1, 3, 7])
def test_the_size_of_a_pass_is_bounded_and_changes_nothing(model, batch, rows):
    expected = attribute(model, batch, steps=10)
    sizes = []
    hook = model.register_forward_hook(lambda m, inputs, outputs: sizes.append(len(inputs[0])))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = attribute(model, batch, steps=10, rows=rows)
    hook.remove()
    assert max(sizes) <= rows
    torch.testing.assert_close(found.spectra, expected.spectra, atol=1e-6, rtol=1e-5)
    assert torch.equal(found.target, expected.target)


@pytest.mark.parametrize("method", METHODS)
def test_a_modality_that_the_model_ignores_gets_zero(batch, method):
    tabular_only = attribute(TabularOnly(COVARIATES), batch, 1, method)
    # How many rows a pass has moves a score in its last digit, which an ablation sees.
    nothing = 1e-6 if method == "feature_ablation" else 0.0
    assert (tabular_only.spectra.abs() <= nothing).all()
    assert (tabular_only.tabular != 0).any()
    spectra_only = attribute(SpectraOnly(POINTS, **SMALL), batch, 1, method)
    assert (spectra_only.tabular.abs() <= nothing).all()
    assert (spectra_only.spectra != 0).any()


def test_a_cohort_without_covariates_can_be_explained(batch):
    batch.tabular = torch.zeros(len(SCANS), 0)
    found = attribute(SpectraOnly(POINTS, **SMALL), batch, steps=5)
    assert found.tabular.shape == (len(SCANS), 0)
    assert (found.spectra != 0).any()


def test_the_likeliest_class_is_explained_unless_told_otherwise(model, batch):
    likeliest = model.eval()(batch.spectra, batch.mask, batch.tabular)["logits"].argmax(dim=1)
    assert torch.equal(attribute(model, batch, steps=5).target, likeliest)
    own = torch.tensor([2, 0, 1, 2])
    mixed = attribute(model, batch, own, steps=5)
    for row, target in enumerate(own.tolist()):
        alone = attribute(model, batch, target, steps=5)
        torch.testing.assert_close(mixed.tabular[row], alone.tabular[row], atol=1e-6, rtol=0)


def test_the_model_is_left_as_it_was(model, batch):
    model.train()
    model.head.eval()
    attribute(model, batch, steps=5)
    assert model.training
    assert not model.head.training
    assert all(parameter.grad is None for parameter in model.parameters())
    assert not batch.spectra.requires_grad


def test_attributions_are_made_in_eval_mode_under_no_grad(model, batch):
    model.train()
    with torch.no_grad():
        first, second = (attribute(model, batch, 0, steps=5) for _ in range(2))
    assert torch.equal(first.spectra, second.spectra)
    assert (first.spectra != 0).any()


def test_recurrent_models_can_be_explained(batch):
    found = attribute(Weighted(recurrent=True), batch, 0, steps=50)
    assert found.gap is not None
    assert found.gap.abs().max() < 1e-3


@pytest.mark.parametrize("method", METHODS)
def test_the_random_streams_are_left_alone(model, batch, method):
    model.train()
    before = capture_rng()
    attribute(model, batch, method=method, steps=3)
    after = capture_rng()
    for stream in ("torch", "cuda"):  # a tensor, and one of each GPU
        torch.testing.assert_close(after.pop(stream), before.pop(stream), rtol=0, atol=0)
    assert before == after


@pytest.mark.parametrize("method", METHODS)
def test_what_is_found_for_a_sample_depends_on_no_other(model, batch, method):
    options: dict[str, Any] = {
        "method": method,
        "steps": 4,
        "window": 16,
        "references": make_batch(7),
    }
    together = attribute(model, batch, 1, **options)
    for row in range(len(SCANS)):
        alone = Inputs(batch.spectra, batch.mask, batch.tabular).rows(slice(row, row + 1))
        own = attribute(model, alone, 1, first=row, **options)
        torch.testing.assert_close(own.spectra[0], together.spectra[row], atol=1e-6, rtol=1e-4)
        torch.testing.assert_close(own.tabular[0], together.tabular[row], atol=1e-6, rtol=1e-4)


def test_scans_padded_in_all_samples_of_a_pass_are_cut_off(model, batch):
    widths = []
    hook = model.register_forward_pre_hook(lambda m, given: widths.append(given[0].shape[1]))
    attribute(model, batch, 1, steps=10, rows=10)
    hook.remove()
    # One sample a pass; the first one only tells how many outputs there are.
    assert set(widths[1:]) == set(SCANS)


def test_log_odds_of_two_classes_are_the_difference_of_logits(batch):
    model = Weighted()
    weights = model.points.weight.detach()
    found = attribute(model, batch, 1, score="log_odds")
    expected = batch.spectra * batch.mask[..., None] * (weights[1] - weights[0])
    torch.testing.assert_close(found.spectra, expected, atol=1e-5, rtol=0)
    other = attribute(model, batch, 0, score="log_odds")
    torch.testing.assert_close(other.spectra, -found.spectra, atol=1e-6, rtol=0)


def test_log_odds_ignore_a_common_offset_of_the_logits(model, batch):
    found = attribute(model, batch, score="log_odds", steps=100)
    zero = 0 * batch.spectra, batch.mask, 0 * batch.tabular
    odds = []
    for given in ((batch.spectra, batch.mask, batch.tabular), zero):
        own = model.eval()(*given)["logits"].double().softmax(dim=1)
        own = own.gather(1, found.target[:, None])[:, 0]
        odds.append((own / (1 - own)).log().float())
    torch.testing.assert_close(found.change, (odds[0] - odds[1]).detach(), atol=1e-5, rtol=0)
    with torch.no_grad():
        model.head[-1].bias.add_(3.0)
    again = attribute(model, batch, score="log_odds", steps=100)
    torch.testing.assert_close(again.spectra, found.spectra, atol=1e-5, rtol=0)


def test_progress_is_told_until_all_samples_are_explained(model, batch):
    told: list[int] = []
    attribute(model, batch, steps=4, rows=8, progress=told.append)
    assert len(told) > 1
    assert sum(told) == len(SCANS)


def test_what_does_not_exist_is_refused_in_a_line(model, batch):
    with pytest.raises(UsageError, match="did you mean 'integrated_gradients'"):
        attribute(model, batch, method="integrated_gradient")
    with pytest.raises(UsageError, match="outputs 0 to 2, not 3"):
        attribute(model, batch, 3)
    with pytest.raises(UsageError, match="one for each of 4 samples"):
        attribute(model, batch, torch.tensor([0, 1]))
    with pytest.raises(UsageError, match=r"attribution\.steps: a whole number"):
        attribute(model, batch, steps=0)
    with pytest.raises(UsageError, match="did you mean 'log_odds'"):
        attribute(model, batch, score="logodds")
