"""A network on a linear path: where it starts, what it sees, what it learns from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score
from torch import nn

from engine.losses import CrossEntropy
from engine.model_call import call_loss
from models import MODELS, LinearPath, Members, TrainingSet, fit_before_training
from tests.models.small_batch import SPEC_LEN, TAB_DIM, SmallBatch, small_model

SAMPLES = 80
WIDTHS = {"binary": 2, "multiclass": 3, "multilabel": 3, "regression": 2}


def training_set(task: str = "binary") -> TrainingSet:
    """Groups of two; the first points, which are alike, and the first covariate decide."""
    rng = np.random.default_rng(0)
    spectra = rng.normal(size=(SAMPLES, SPEC_LEN)).astype(np.float32)
    covariates = rng.normal(size=(SAMPLES, TAB_DIM)).astype(np.float32)
    spectra[:, :20] = 2 * spectra[:, :1] + 0.5 * spectra[:, :20]
    score = spectra[:, 0] + 2 * covariates[:, 0] + 0.3 * rng.normal(size=SAMPLES)
    targets: dict[str, np.ndarray] = {
        "binary": (score > 0).astype(np.int64),
        "multiclass": np.digitize(score, [-1.5, 1.5]),
        "multilabel": np.stack([score > 0, score > 1, score > 99], 1).astype(np.float32),
        "regression": np.stack([score / 4, rng.normal(size=SAMPLES)], 1).astype(np.float32),
    }
    groups = (np.arange(SAMPLES) // 2).astype(str)
    return TrainingSet(spectra, covariates, targets[task], groups, task, 0)


def scans_of(training: TrainingSet) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    spectra = torch.from_numpy(training.spectra)[:, None]
    mask = torch.ones(spectra.shape[:2], dtype=torch.bool)
    return spectra, mask, torch.from_numpy(training.covariates)


def fitted(
    name: str = "mean_linear", task: str = "binary", **sizes: int
) -> tuple[LinearPath, np.ndarray]:
    width = WIDTHS[task]
    sizes = {"spec_len": SPEC_LEN, "tab_dim": TAB_DIM, "num_classes": width, **sizes}
    model = LinearPath(small_model(name, width), **sizes)
    offset = model.fit(training_set(task))
    return model.eval(), offset


def heads(outputs: Mapping[str, Any]) -> list[torch.Tensor]:
    names = ("logits", "aux_logits_spec", "aux_logits_tab")
    return [outputs[name] for name in names if outputs.get(name) is not None]


@pytest.mark.parametrize("task", WIDTHS)
@pytest.mark.parametrize("name", MODELS)
def test_every_network_starts_at_the_linear_model(name: str, task: str, batch: SmallBatch) -> None:
    width = WIDTHS[task]
    model = LinearPath(small_model(name, width), SPEC_LEN, TAB_DIM, width).eval()
    generator = torch.Generator().manual_seed(0)
    for weight in (model.spectra_weight, model.covariates_weight, model.bias):
        weight.copy_(torch.randn(weight.shape, generator=generator))
    linear = model.linear(*batch.inputs)
    assert linear.std() > 1
    for logits in heads(model(*batch.inputs)):
        torch.testing.assert_close(logits, linear, atol=1e-5, rtol=0)


@pytest.mark.parametrize("task", WIDTHS)
def test_the_linear_model_predicts_what_is_linear(task: str) -> None:
    training = training_set(task)
    model, offset = fitted(task=task)
    found = model.linear(*scans_of(training)).numpy()
    assert found.shape == offset.shape == (SAMPLES, WIDTHS[task])
    if task == "regression":
        for logits, least in ((found, 0.9), (offset, 0.7)):
            assert np.corrcoef(logits[:, 0], training.targets[:, 0])[0, 1] > least
        return
    if task == "multilabel":
        truth, columns = training.targets[:, 0], (found[:, 0], offset[:, 0])
    else:
        truth = training.targets == WIDTHS[task] - 1
        columns = (found[:, -1] - found[:, 0], offset[:, -1] - offset[:, 0])
    in_sample, out_of_fold = (roc_auc_score(truth, column) for column in columns)
    assert in_sample > 0.9
    assert 0.7 < out_of_fold < in_sample


def test_a_label_that_nobody_has_gets_its_base_rate() -> None:
    model, offset = fitted(task="multilabel")
    expected = np.log(0.5 / (SAMPLES + 0.5))
    assert offset[:, 2] == pytest.approx(expected)
    assert model.linear(*scans_of(training_set()))[:, 2].numpy() == pytest.approx(expected)


def test_a_class_without_samples_is_refused() -> None:
    model = LinearPath(small_model("mean_linear", 3), SPEC_LEN, TAB_DIM, 3)
    with pytest.raises(ValueError, match="only 2 of 3 classes"):
        model.fit(training_set("binary"))


def test_where_nothing_can_be_held_out_no_linear_model_is_used() -> None:
    model = LinearPath(small_model("mean_linear"), SPEC_LEN, TAB_DIM, 2)
    offset = model.fit(training_set()._replace(groups=np.zeros(SAMPLES)))
    assert not model.spectra_weight.any()
    assert not model.covariates_weight.any()
    torch.testing.assert_close(torch.from_numpy(offset), model.bias.expand(SAMPLES, -1))


def test_the_offset_counts_in_training_only(batch: SmallBatch) -> None:
    model, _ = fitted("tft")
    offset = torch.randn(len(batch.mask), 2)
    linear = model.linear(*batch.inputs)
    for mode, expected in ((True, offset), (False, linear)):
        outputs = model.train(mode)(*batch.inputs, offset=offset)
        for logits in heads(outputs):
            torch.testing.assert_close(logits, expected)
    torch.testing.assert_close(model.train()(*batch.inputs)["logits"], linear)


def test_each_member_learns_what_the_offset_leaves(batch: SmallBatch) -> None:
    networks = [small_model("mean_linear", seed=seed) for seed in (1, 2)]
    model = LinearPath(Members(networks), SPEC_LEN, 0, 2).train()
    offset = torch.randn(len(batch.mask), 2)
    outputs = model(*batch.inputs, offset=offset)
    assert [part["logits"].tolist() for part in outputs["parts"]] == 2 * [offset.tolist()]
    call_loss(CrossEntropy(), outputs, batch.target)["total_loss"].backward()
    expected = nn.functional.cross_entropy(offset, batch.target)
    found = call_loss(CrossEntropy(), outputs, batch.target)["total_loss"]
    torch.testing.assert_close(found, expected)


def test_scans_are_averaged_and_padding_may_be_nan(batch: SmallBatch) -> None:
    model, _ = fitted("tft")
    padded = batch.spectra.masked_fill(~batch.mask[..., None], torch.nan)
    expected = model.linear(*batch.inputs)
    assert torch.equal(model.linear(padded, batch.mask, batch.tabular), expected)
    means = torch.stack([s[m].mean(0) for s, m in zip(batch.spectra, batch.mask, strict=True)])
    np.testing.assert_allclose(model.predict(means.numpy(), batch.tabular.numpy()), expected)


def test_half_precision_leaves_the_linear_model_whole(batch: SmallBatch) -> None:
    model, _ = fitted("tft")
    exact = model(*batch.inputs)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rounded = model(*batch.inputs)
    assert torch.equal(rounded["member_logits"][:, 0], exact["member_logits"][:, 0])
    torch.testing.assert_close(rounded["logits"], exact["logits"])


@pytest.mark.parametrize("unseen", ["spec_len", "tab_dim"])
def test_a_modality_that_the_network_has_not_is_not_seen(unseen: str, batch: SmallBatch) -> None:
    model, _ = fitted("mean_linear", "binary", **{unseen: 0})
    spectra, mask, tabular = batch.inputs
    expected = model.linear(spectra, mask, tabular)
    assert expected.std() > 0
    changed = (
        model.linear(spectra + 1, mask, tabular)
        if unseen == "spec_len"
        else model.linear(spectra, mask, tabular + 1)
    )
    assert torch.equal(changed, expected)


def test_the_networks_share_scales_what_it_adds(batch: SmallBatch) -> None:
    model, _ = fitted("tft")
    for parameter in model.network.parameters():
        nn.init.normal_(parameter, std=0.1)
    linear = model.linear(*batch.inputs)
    whole = [logits - linear for logits in heads(model(*batch.inputs))]
    model.member_weights[1] = 0.25
    quarter = [logits - linear for logits in heads(model(*batch.inputs))]
    assert len(whole) == 3
    for one, other in zip(whole, quarter, strict=True):
        assert one.abs().max() > 0.01
        torch.testing.assert_close(other, one / 4, atol=1e-5, rtol=1e-3)


def test_it_is_compiled_whole(batch: SmallBatch) -> None:
    networks = [small_model("pca_mlp", seed=seed, dropout=0.0) for seed in (1, 2)]
    model = LinearPath(Members(networks), SPEC_LEN, TAB_DIM, 2).train()
    offset = torch.randn(len(batch.mask), 2)
    compiled = torch.compile(model, backend="eager", fullgraph=True)
    expected = model(*batch.inputs, offset=offset)["logits"]
    torch.testing.assert_close(compiled(*batch.inputs, offset=offset)["logits"], expected)


def test_parts_within_are_fitted_too() -> None:
    model = LinearPath(small_model("pca_mlp"), SPEC_LEN, TAB_DIM, 2)
    training = training_set()
    before = model.network.rotation.clone()
    offset = fit_before_training(model, training)
    assert offset is not None
    assert offset.shape == (SAMPLES, 2)
    assert model.bias.any()
    assert not torch.equal(model.network.rotation, before)


def test_a_network_without_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^Linear has no last layer called head, which"):
        LinearPath(nn.Linear(3, 2), 3, 0, 2)
