"""The network of principal components: what is fitted, and how modalities are trained."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.decomposition import PCA

from engine.losses import CrossEntropy
from engine.model_call import call_loss
from models import MODELS, PCAMLP, TrainingSet
from models.classical import FlooredScaler
from tests.models.small_batch import SPEC_LEN, TAB_DIM, SmallBatch, small_model


def training_set(samples: int, points: int) -> TrainingSet:
    rng = np.random.default_rng(0)
    factors = rng.normal(size=(samples, 6)) @ rng.normal(size=(6, points))
    spectra = (5 + factors + 0.1 * rng.normal(size=(samples, points))).astype(np.float32)
    covariates = rng.normal(size=(samples, 2)).astype(np.float32)
    groups = np.arange(samples).astype(str)
    return TrainingSet(spectra, covariates, np.arange(samples) % 2, groups, "binary", 0)


def components(model: PCAMLP, spectra: np.ndarray) -> np.ndarray:
    """What the spectra's layer sees."""
    seen: list[torch.Tensor] = []
    model.spectra.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    scans = torch.from_numpy(spectra)[:, None]
    mask = torch.ones(scans.shape[:2], dtype=torch.bool)
    model.eval()(scans, mask, torch.zeros(len(scans), 2))
    return seen[0].numpy()


def test_the_layer_sees_whitened_components_of_new_scans() -> None:
    training = training_set(80, 50)
    model = PCAMLP(50, 2, components=5)
    model.fit(training)
    scaler = FlooredScaler().fit(training.spectra)
    new = training.spectra[::-1] * 1.1
    pca = PCA(5, whiten=True, svd_solver="full").fit(scaler.transform(training.spectra))
    expected, found = pca.transform(scaler.transform(new)), components(model, new)
    signs = np.sign((expected * found).sum(axis=0))
    np.testing.assert_allclose(found, expected * signs, atol=1e-3)


def test_few_samples_have_fewer_components_and_the_rest_are_zero() -> None:
    training = training_set(10, 50)
    model = PCAMLP(50, 2, components=40)
    model.fit(training)
    found = components(model, training.spectra)
    assert found[:, :8].std(axis=0) == pytest.approx(1, abs=0.2)
    assert not found[:, 8:].any()


def test_directions_that_never_vary_stay_out() -> None:
    """Scans of sum zero: one direction holds rounding errors alone."""
    training = training_set(60, 12)
    spectra = training.spectra - training.spectra.mean(axis=1, keepdims=True)
    model = PCAMLP(12, 2, components=12)
    model.fit(training._replace(spectra=spectra))
    assert np.abs(components(model, spectra)).max() < 10


def test_without_covariates_they_are_not_asked_for(batch: SmallBatch) -> None:
    model = small_model("pca_mlp", tab_dim=0).eval()
    out = model(batch.spectra, batch.mask)
    assert set(out) == {"logits", "embedding", "spec_embedding"}
    assert torch.equal(out["logits"], model(batch.spectra, batch.mask, batch.tabular)["logits"])


def test_logits_start_at_zero_and_padding_may_be_nan(batch: SmallBatch) -> None:
    assert not PCAMLP(SPEC_LEN, TAB_DIM).eval()(*batch.inputs)["logits"].any()
    model = small_model("pca_mlp").eval()
    padded = batch.spectra.masked_fill(~batch.mask[..., None], torch.nan)
    before, after = (model(s, batch.mask, batch.tabular) for s in (batch.spectra, padded))
    assert torch.equal(before["embedding"], after["embedding"])


@pytest.mark.parametrize("fusion", ["joint", "separate"])
def test_separate_modalities_do_not_see_each_others_errors(fusion: str, batch: SmallBatch) -> None:
    """The gradient of the spectra's layer, for two states of the covariates' layer."""
    gradients = []
    for size in (0.0, 3.0):
        model = small_model("pca_mlp", fusion=fusion, dropout=0.0)
        assert isinstance(model, PCAMLP)
        assert model.covariates is not None
        torch.nn.init.constant_(model.covariates.head[-1].weight[0], size)
        out = model.train()(*batch.inputs)
        call_loss(CrossEntropy(), out, batch.target)["total_loss"].backward()
        gradients.append(model.spectra.head[-1].weight.grad)
    assert torch.equal(*gradients) == (fusion == "separate")


def test_noise_is_for_training_only(batch: SmallBatch) -> None:
    model = small_model("pca_mlp", dropout=0.0, input_noise=0.1)
    model.train()
    assert not torch.equal(model(*batch.inputs)["embedding"], model(*batch.inputs)["embedding"])
    model.eval()
    assert torch.equal(model(*batch.inputs)["embedding"], model(*batch.inputs)["embedding"])


def test_components_that_were_never_fitted_are_not_trained_on() -> None:
    with pytest.raises(ValueError, match="call fit before"):
        PCAMLP(20).train()


@pytest.mark.parametrize(
    ("settings", "words"),
    [({"fusion": "late"}, "joint or separate, not 'late'"), ({"input_noise": -1}, "at least 0")],
)
def test_wrong_settings_are_refused(settings: dict[str, object], words: str) -> None:
    assert MODELS["pca_mlp"].endswith("PCAMLP")
    with pytest.raises(ValueError, match=words):
        PCAMLP(20, **settings)  # type: ignore[arg-type]
