from __future__ import annotations

import math

import pytest
import torch

from datasets.batches import Batch
from engine.metrics.attention_summary import summarise_attention
from experiments.config import find_named
from models import MODELS, MeanLinear, TFTMultimodal
from tests.models.small_batch import SMALL

# As many scans at most as there are covariates, so that sizes alone do not tell them apart.
SCANS, POINTS, COVARIATES, HEADS = (4, 1, 2, 3, 4, 1, 2, 2, 1, 3), 48, 4, 4


def make_batch(scans: tuple[int, ...], seed: int = 0) -> Batch:
    torch.manual_seed(seed)
    mask = torch.arange(max(scans)) < torch.tensor(scans)[:, None]
    spectra = torch.randn(len(scans), max(scans), POINTS) * mask[..., None]
    names = [str(i) for i in range(len(scans))]
    target = torch.zeros(len(scans)).long()
    return Batch(spectra, mask, torch.randn(len(scans), COVARIATES), target, names)


@pytest.fixture
def model() -> TFTMultimodal:
    torch.manual_seed(1)
    return TFTMultimodal(COVARIATES, POINTS, **SMALL)


def test_entropy_and_effective_scans_are_per_sample(model):
    batch = make_batch(SCANS)
    found = summarise_attention(model, [batch]).over_scans["scan_pooling"]
    weights = model.eval()(batch.spectra, batch.mask, batch.tabular)["attention_weights"]
    for i, row in enumerate(weights["scan_pooling"].detach().double()):
        own = row[: SCANS[i]]
        assert float(found.entropy[i]) == pytest.approx(float(-(own * own.log()).sum()), abs=1e-6)
    assert found.scans.tolist() == list(SCANS)
    assert (found.effective <= found.scans + 1e-6).all()
    assert found.effective[1] == pytest.approx(1.0)


def test_equal_weights_count_every_scan(model):
    batch = make_batch((4, 4))
    batch.spectra[:] = batch.spectra[:, :1]
    found = summarise_attention(model, [batch]).over_scans["scan_pooling"]
    assert found.entropy.tolist() == pytest.approx([math.log(4)] * 2, abs=1e-6)
    assert found.effective.tolist() == pytest.approx([4, 4], abs=1e-5)


def test_cross_modal_weights_are_averaged_over_real_scans(model):
    batch = make_batch(SCANS)
    means = summarise_attention(model, [batch]).means
    model.return_attention = True
    weights = model.eval()(batch.spectra, batch.mask, batch.tabular)["attention_weights"]
    by_hand = weights["spectra_to_tabular"].detach().double()  # [B, H, S, D]
    assert means["spectra_to_tabular"].axes == ("head", "scan", "covariate")
    for scan in range(4):
        has = batch.mask[:, scan]
        expected = by_hand[has][:, :, scan].mean(dim=0)
        torch.testing.assert_close(
            means["spectra_to_tabular"].mean[:, scan], expected, atol=1e-6, rtol=0
        )
    assert means["tabular_to_spectra"].axes == ("head", "covariate", "scan")
    assert means["feature_selection"].axes == ("covariate",)
    torch.testing.assert_close(
        means["feature_selection"].mean,
        weights["feature_selection"].detach().double().mean(dim=0),
        atol=1e-6,
        rtol=0,
    )


def test_weights_differ_over_samples_by_their_standard_deviation(model):
    batch = make_batch(SCANS)
    means = summarise_attention(model, [batch]).means
    weights = model.eval()(batch.spectra, batch.mask, batch.tabular)["attention_weights"]
    expected = weights["spectra_gate"].detach().double().std(dim=0, correction=0)
    torch.testing.assert_close(means["spectra_gate"].spread, expected, atol=1e-6, rtol=0)


def test_weights_within_scans_are_averaged_over_the_real_scans(model):
    batch = make_batch(SCANS)
    means = summarise_attention(model, [batch]).means
    model.return_attention = True
    weights = model.eval()(batch.spectra, batch.mask, batch.tabular)["attention_weights"]
    expected = weights["patch_pooling"][batch.mask].detach().double().mean(dim=0)
    torch.testing.assert_close(means["patch_pooling"].mean, expected, atol=1e-6, rtol=0)
    assert means["patch_pooling"].axes == ("head", "position")
    layer = means["patch_attention_0"]
    assert layer.axes == ("head", "position", "position")
    torch.testing.assert_close(
        layer.mean.sum(dim=-1), torch.ones(HEADS, layer.mean.shape[1]).double(), atol=1e-5, rtol=0
    )


def test_batches_change_nothing_and_the_limit_holds(model):
    whole = make_batch(SCANS)
    parts = [
        Batch(whole.spectra[i:j, :s], whole.mask[i:j, :s], whole.tabular[i:j], whole.target, [])
        for i, j, s in ((0, 5, 4), (5, 9, 2), (9, 10, 3))
    ]
    one, many = summarise_attention(model, [whole]), summarise_attention(model, parts)
    assert one.samples == many.samples == len(SCANS)
    for name, found in one.means.items():
        torch.testing.assert_close(many.means[name].mean, found.mean, atol=1e-6, rtol=0)
    limited = summarise_attention(model, parts, max_samples=6)
    assert limited.samples == len(limited.over_scans["scan_pooling"].entropy) == 6


def test_the_model_is_left_as_it_was(model):
    model.train()
    summarise_attention(model, [make_batch(SCANS)])
    assert model.training
    assert model.return_attention is False


def test_a_model_without_attention_gives_an_empty_summary():
    found = summarise_attention(MeanLinear(spec_len=POINTS), [make_batch((2, 1))])
    assert (found.over_scans, found.means) == ({}, {})


@pytest.mark.parametrize("name", sorted(MODELS))
def test_every_model_can_be_summarised(name):
    import inspect

    offered = {"tab_dim": COVARIATES, "spec_len": POINTS, **SMALL}
    taken = inspect.signature(find_named(name, MODELS, "name")).parameters
    model = find_named(name, MODELS, "name")(
        **{key: value for key, value in offered.items() if key in taken}
    )
    found = summarise_attention(model, [make_batch(SCANS)])
    for weights in found.means.values():
        assert torch.isfinite(weights.mean).all()
        assert len(weights.axes) == weights.mean.ndim
