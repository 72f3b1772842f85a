from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from datasets.target_scaler import TargetScaler
from engine import EpochMetrics, EpochOutputs, Evaluator, UsageError
from engine.losses import LOSSES
from tests.tiny_problem import TinyLoader, TinyModel

TWO = torch.tensor([[0.5, -1.0], [2.0, 3.0]])


def outputs(task="", logits=TWO):
    return EpochOutputs(logits, torch.zeros(len(logits)), ["a", "b"], {}, task)


def test_outputs_know_their_task_and_what_it_makes_of_the_logits():
    assert [outputs().task, outputs(logits=torch.zeros(2, 3)).task] == ["binary", "multiclass"]
    torch.testing.assert_close(outputs().probabilities.sum(dim=1), torch.ones(2).double())
    labels = outputs("multilabel")
    torch.testing.assert_close(labels.probabilities, TWO.double().sigmoid())
    assert labels.predictions.tolist() == [[1, 0], [1, 1]]
    values = outputs("regression")
    assert torch.equal(values.predictions, TWO)
    assert not hasattr(values, "probabilities")


def measured(task, loss, targets, **settings):
    """The metrics and outputs of an untrained model on other targets than the tiny problem's."""
    torch.manual_seed(0)
    loader, model = TinyLoader(), TinyModel()
    start = 0
    for number, batch in enumerate(loader.batches):
        own = torch.as_tensor(targets[start : start + len(batch.target)], dtype=torch.float32)
        loader.batches[number] = replace(batch, target=own)
        start += len(own)
    evaluator = Evaluator(model, LOSSES[loss](), EpochMetrics(task=task, **settings))
    return evaluator.evaluate(loader), evaluator.metrics.outputs


def test_a_regression_is_measured_in_the_targets_units_and_its_loss_as_it_was_learned():
    values = np.random.default_rng(0).normal([50.0, -2.0], [10.0, 0.5], (20, 2))
    scaler = TargetScaler().fit(values)
    learned = scaler.standardize(values)
    found, kept = measured("regression", "mse", learned, restore=scaler.restore)
    assert list(found) == ["loss", "mae", "mse", "rmse", "r2"]
    np.testing.assert_allclose(kept.target.numpy(), values, rtol=1e-5)
    missed = kept.predictions.numpy() - values
    assert found["mae"] == pytest.approx(np.abs(missed).mean(), rel=1e-5)
    assert found["rmse"] == pytest.approx(np.sqrt((missed**2).mean(0)).mean(), rel=1e-5)
    standardised = missed / scaler.state_dict()["std"]
    assert found["loss"] == pytest.approx((standardised**2).mean(), rel=1e-4)


def test_several_labels_are_measured_label_by_label():
    labels = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 5)
    found, kept = measured("multilabel", "bce", labels, names=["accuracy", "auroc"])
    said = kept.probabilities.numpy() >= 0.5
    assert found["accuracy"] == pytest.approx((said == labels).mean())
    assert 0 <= found["auroc"] <= 1


def test_an_unknown_metric_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="did you mean 'auroc'"):
        EpochMetrics(["auroc", "aurocc"])


def test_training_metrics_survive_a_resume_within_the_epoch(make_trainer, loader):
    from ignite.engine import Events

    trainer, other = make_trainer(), make_trainer()
    kept = {}
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=3), lambda: kept.update(trainer.capture())
    )
    trainer.fit(loader, 1)
    assert len(kept["epoch_metrics"]["target"]) == 3
    other.restore(kept)
    assert other.stateful["epoch_metrics"].state_dict()["sample_id"] == [f"s{i}" for i in range(12)]


def test_diverged_scores_give_undefined_metrics_not_an_error(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.head.bias.fill_(math.nan)
    metrics = make_evaluator(trainer).evaluate(loader)
    assert all(math.isnan(value) for value in metrics.values())
