from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn import metrics as sk

from engine import EpochMetrics, UsageError
from engine.metrics import METRICS

REFERENCE = {
    "accuracy": lambda p, y: sk.accuracy_score(y, p.argmax(1)),
    "precision": lambda p, y: sk.precision_score(y, p.argmax(1), **_average(p)),
    "recall": lambda p, y: sk.recall_score(y, p.argmax(1), **_average(p)),
    "f1": lambda p, y: sk.f1_score(y, p.argmax(1), **_average(p)),
    "auroc": lambda p, y: (
        sk.roc_auc_score(y, p[:, 1])
        if p.shape[1] == 2
        else sk.roc_auc_score(y, p, multi_class="ovr")
    ),
    "auprc": lambda p, y: (
        sk.average_precision_score(y, p[:, 1])
        if p.shape[1] == 2
        else sk.average_precision_score(y, p)
    ),
}


def _average(p):
    return {"average": "binary" if p.shape[1] == 2 else "macro", "zero_division": 0}


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("name", sorted(METRICS))
def test_agrees_with_scikit_learn(name, classes):
    rng = np.random.default_rng(classes)
    target = rng.integers(classes, size=200)
    logits = rng.normal(size=(200, classes)) + 1.5 * np.eye(classes)[target]
    probabilities = torch.from_numpy(logits).softmax(dim=1)
    ours = METRICS[name](probabilities, torch.from_numpy(target))
    assert ours == pytest.approx(REFERENCE[name](probabilities.numpy(), target), abs=1e-6)


@pytest.mark.parametrize("name", ["auroc", "auprc"])
def test_ranking_with_one_class_is_undefined(name):
    scores = torch.rand(6, 2).softmax(dim=1)
    assert math.isnan(METRICS[name](scores, torch.ones(6, dtype=torch.long)))


def test_tied_scores_count_half():
    assert METRICS["auroc"](torch.full((4, 2), 0.5), torch.tensor([0, 1, 0, 1])) == 0.5


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
