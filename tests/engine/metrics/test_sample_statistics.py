from __future__ import annotations

import math
from pkgutil import resolve_name
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from ignite.engine import Events
from scipy.spatial.distance import jensenshannon
from scipy.stats import entropy

from engine import EpochMetrics, Evaluator, UsageError
from engine.losses import LOSSES, CrossEntropy
from engine.metrics.sample_statistics import (
    SAMPLE_STATISTICS,
    attention_weights,
    effective_scans,
    modality_consistency,
)
from engine.metrics.tasks import OF_ATTENTION, OF_MODALITIES
from models import MODELS
from tests.engine.measured import make_loader
from tests.models.small_batch import small_model
from tests.no_waiting import NoWaiting

BOTH_HEADS, ONE_MODALITY = {"tft", "attention", "late_fusion"}, {"spectra_only", "spectra_cnn"}
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")


@pytest.fixture
def batch():
    return make_loader()[0]  # three samples of 5, 1 and 2 scans, and five covariates


def told(name, outputs, batch):
    return SAMPLE_STATISTICS[name](outputs, batch)


def heads(spec, tab):
    return {"aux_logits_spec": torch.as_tensor(spec), "aux_logits_tab": torch.as_tensor(tab)}


def pooled(*weights):
    return {"attention_weights": {"scan_pooling": torch.tensor(weights)}}


def of_labels(batch, labels):
    batch.target = torch.zeros(len(batch.target), labels)
    return batch


def evaluated(model, names, loader=None, task=None, loss="cross_entropy"):
    evaluator = Evaluator(model, resolve_name(LOSSES[loss])(), EpochMetrics(names, task=task))
    return evaluator.evaluate(loader or make_loader()), evaluator.metrics.outputs


# -- modalities ---------------------------------------------------------------------------------


@pytest.mark.parametrize("classes", [2, 5])
def test_consistency_is_1_minus_jensen_shannon_in_bits(classes, batch):
    spec, tab = 3 * torch.randn(2, 3, classes)
    found = told("modality_consistency", heads(spec, tab), batch)
    distance = jensenshannon(spec.softmax(1).numpy(), tab.softmax(1).numpy(), base=2, axis=1)
    np.testing.assert_allclose(found.numpy(), 1 - distance**2, atol=1e-6)


def test_consistency_ranges_from_opposite_to_equal(batch):
    spec = [[50.0, -50.0], [0.3, 0.1], [1e4, 0.0]]
    tab = [[-50.0, 50.0], [1.3, 1.1], [1e4, 0.0]]
    found = told("modality_consistency", heads(spec, tab), batch)
    assert found.tolist() == pytest.approx([0, 1, 1], abs=1e-6)
    assert 0 <= found.min() <= found.max() <= 1


def test_of_labels_each_is_there_or_not_and_their_mean_counts(batch):
    spec, tab = 3 * torch.randn(2, 3, 4)
    outputs, of_four = heads(spec, tab), of_labels(batch, 4)
    p, q = spec.sigmoid().numpy(), tab.sigmoid().numpy()
    distance = jensenshannon(np.stack([p, 1 - p]), np.stack([q, 1 - q]), base=2, axis=0)
    np.testing.assert_allclose(
        told("modality_consistency", outputs, of_four).numpy(),
        (1 - distance**2).mean(axis=1),
        atol=1e-6,
    )
    agreement = told("modality_agreement", outputs, of_four).numpy()
    np.testing.assert_allclose(agreement, ((p >= 0.5) == (q >= 0.5)).mean(axis=1))


def test_heads_agree_where_they_decide_for_the_same_class(batch):
    spec, tab = [[2.0, 1, 0], [0, 1, 2], [0, 1, 0]], [[9.0, 0, 8], [0, 2, 1], [0, 1, 0]]
    assert told("modality_agreement", heads(spec, tab), batch).tolist() == [1, 0, 1]


def test_a_label_of_probability_one_half_is_predicted(batch):
    even, there = torch.zeros(3, 1), torch.ones(3, 1)
    assert told("modality_agreement", heads(even, there), of_labels(batch, 1)).tolist() == [1, 1, 1]
    assert told("modality_agreement", heads(even, -there), of_labels(batch, 1)).tolist() == [
        0,
        0,
        0,
    ]


@pytest.mark.parametrize("name", OF_MODALITIES)
@pytest.mark.parametrize("labels", [0, 2])
def test_heads_that_diverged_are_neither_alike_nor_not(name, labels, batch):
    spec, tab = torch.zeros(2, 3, 2)
    spec[1, 1] = math.nan
    found = told(name, heads(spec, tab), of_labels(batch, labels) if labels else batch)
    assert found.isnan().tolist() == [False, True, False]


# -- scans --------------------------------------------------------------------------------------


def test_entropy_is_of_the_real_scans_weights(batch):
    outputs = pooled([0.4, 0.3, 0.2, 0.1, 0.0], [0.5, 0.5, 0.0, 0.0, 0.0], [0.3, 0.1, 0.6, 0, 0])
    found = told("attention_entropy", outputs, batch)  # the scans are 5, 1 and 2
    expected = [entropy([0.4, 0.3, 0.2, 0.1]), 0, entropy([0.3, 0.1])]
    assert found.tolist() == pytest.approx(expected, abs=1e-6)
    scans = told("effective_scans", outputs, batch).tolist()
    assert scans == pytest.approx(np.exp(expected).tolist(), abs=1e-6)


def test_scans_of_equal_weight_count_as_many_as_they_are(batch):
    found = told("effective_scans", pooled(*[[0.2] * 5] * 3), batch)
    assert found.tolist() == pytest.approx([5, 1, 2])


def test_the_weights_are_those_by_which_scans_are_pooled(batch):
    even, one = torch.full((3, 5), 0.2), torch.eye(5)[:3]
    named = {
        # All of the mask's shape: there are five covariates, too.
        "feature_selection": one,
        "tabular_pooling": one,
        "spectra_pooling": even,
        "patch_pooling": torch.ones(3, 5, 2, 7),
    }
    expected = told("attention_entropy", pooled(*[[0.2] * 5] * 3), batch)
    assert torch.equal(told("attention_entropy", {"attention_weights": named}, batch), expected)
    named["spectra_pooling"], named["scan_pooling"] = one, even
    assert torch.equal(told("attention_entropy", {"attention_weights": named}, batch), expected)
    for gone in ("spectra_pooling", "scan_pooling"):
        del named[gone]
    assert told("attention_entropy", {"attention_weights": named}, batch) is None


# -- models and epochs --------------------------------------------------------------------------


@pytest.mark.parametrize("name", MODELS)
def test_each_model_has_those_of_what_it_returns(name):
    found, outputs = evaluated(small_model(name), list(SAMPLE_STATISTICS))
    has = {statistic for statistic, value in found.items() if not math.isnan(value)} - {"loss"}
    expected = set(SAMPLE_STATISTICS) if name in BOTH_HEADS else set()
    assert has == (set(OF_ATTENTION) if name in ONE_MODALITY else expected)
    assert list(outputs.of_samples) == list(SAMPLE_STATISTICS)
    assert all(values.shape == (5,) for values in outputs.of_samples.values())


@pytest.mark.parametrize("statistic", SAMPLE_STATISTICS)
def test_an_epochs_value_is_the_mean_over_samples(statistic):
    model, loader = small_model("tft").eval(), make_loader()
    found, outputs = evaluated(model, ["auroc", statistic], loader)
    with torch.no_grad():
        steps = [told(statistic, model(b.spectra, b.mask, b.tabular), b) for b in loader]
    assert [len(step) for step in steps] == [3, 2]
    torch.testing.assert_close(outputs.of_samples[statistic], torch.cat(steps).double())
    assert found[statistic] == pytest.approx(float(torch.cat(steps).double().mean()))


def test_a_regression_has_statistics_of_scans_only():
    loader = [of_labels(batch, 1) for batch in make_loader()]
    names = ["mae", *OF_ATTENTION]
    found, _ = evaluated(small_model("tft", 1), names, loader, "regression", "mse")
    assert 1 < found["effective_scans"] < 5
    with pytest.raises(UsageError, match="'modality_consistency' does not fit regression"):
        EpochMetrics(["modality_consistency"], task="regression")


def test_half_precision_costs_no_more_than_its_digits(batch):
    outputs = small_model("tft").eval()(batch.spectra, batch.mask, batch.tabular)
    halved = {
        **{head: outputs[head].bfloat16() for head in ("aux_logits_spec", "aux_logits_tab")},
        "attention_weights": {"scan_pooling": outputs["attention_weights"]["scan_pooling"].half()},
    }
    for name in SAMPLE_STATISTICS:
        half, full = told(name, halved, batch), told(name, outputs, batch)
        torch.testing.assert_close(half, full, atol=1e-2, rtol=1e-2, msg=name)


# -- cost ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("labels", [0, 2])
@pytest.mark.parametrize("statistic", SAMPLE_STATISTICS)
def test_they_ask_the_device_for_no_value(statistic, labels, batch):
    outputs = small_model("tft")(batch.spectra, batch.mask, batch.tabular)
    with NoWaiting():
        told(statistic, outputs, of_labels(batch, labels) if labels else batch)


class Watched(EpochMetrics):
    """Lets a GPU say where it is waited for."""

    mode = "default"

    def keep_statistics(self, engine):
        torch.cuda.set_sync_debug_mode(self.mode)
        try:
            super().keep_statistics(engine)
        finally:
            torch.cuda.set_sync_debug_mode("default")


@needs_gpu
@pytest.mark.parametrize("name", ["tft", "mean_linear"])
def test_on_a_gpu_a_step_that_keeps_them_does_not_wait_for_it(name):
    metrics = Watched(list(SAMPLE_STATISTICS))
    evaluator = Evaluator(small_model(name), CrossEntropy(), metrics, "cuda")
    evaluator.evaluate(make_loader())  # what torch makes once is made
    metrics.mode = "error"
    found = evaluator.evaluate(make_loader())
    expected, _ = evaluated(small_model(name), list(SAMPLE_STATISTICS))
    assert found == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_who_asks_for_none_has_nothing_attached(make_trainer):
    def listeners(names):
        trainer = make_trainer()
        evaluator = Evaluator(trainer.model, trainer.loss, EpochMetrics(names))
        return len(evaluator._event_handlers[Events.ITERATION_COMPLETED])

    assert listeners(None) == listeners(["auroc"]) == listeners(["effective_scans"]) - 1


def test_small_samples_have_the_statistics_computed_by_hand():
    assert list(attention_weights({"attention_weights": [torch.ones(1, 2), None]})) == [
        "attention_1"
    ]
    heads = {"aux_logits_spec": torch.zeros(1, 2), "aux_logits_tab": torch.zeros(1, 2)}
    batch = SimpleNamespace(target=torch.tensor([1]), mask=torch.tensor([[True, True, False]]))
    consistency = modality_consistency(heads, batch)
    assert consistency is not None
    assert consistency.tolist() == [1.0]
    pooled = {"attention_weights": {"scan_pooling": torch.tensor([[0.5, 0.5, 0.0]])}}
    scans = effective_scans(pooled, batch)
    assert scans is not None
    assert scans.tolist() == [2.0]
