from __future__ import annotations

import math
import random
from contextlib import contextmanager

import numpy as np
import pytest
import torch
from ignite.engine import Events
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.checkpointing import capture_rng, restore_rng
from tests.tiny_problem import TinyLoader


def test_metrics_agree_with_scikit_learn_on_the_same_outputs(make_trainer, make_evaluator):
    evaluator = make_evaluator(make_trainer())
    metrics = evaluator.evaluate(TinyLoader(seed=3))
    outputs = evaluator.metrics.outputs
    scores, target = outputs.probabilities[:, 1].numpy(), outputs.target.numpy()
    assert metrics["auroc"] == pytest.approx(roc_auc_score(target, scores), abs=1e-6)
    assert metrics["auprc"] == pytest.approx(average_precision_score(target, scores), abs=1e-6)
    log_loss = torch.nn.functional.cross_entropy(outputs.logits, outputs.target)
    assert metrics["loss"] == pytest.approx(float(log_loss), abs=1e-6)


def test_every_sample_is_seen_once_in_the_loaders_order(make_trainer, make_evaluator):
    evaluator = make_evaluator(make_trainer())
    evaluator.evaluate(TinyLoader(samples=18))
    assert evaluator.metrics.outputs.sample_id == [f"s{i}" for i in range(18)]


def test_the_loss_is_the_mean_over_samples_not_over_batches(make_trainer, make_evaluator):
    evaluator = make_evaluator(make_trainer())
    uneven = evaluator.evaluate(TinyLoader(samples=18, batch_size=4))["loss"]
    even = evaluator.evaluate(TinyLoader(samples=18, batch_size=18))["loss"]
    assert uneven == pytest.approx(even, abs=1e-6)


@pytest.mark.parametrize("mode", [True, False])
def test_the_model_is_left_in_the_mode_it_was(make_trainer, make_evaluator, mode):
    trainer = make_trainer()
    trainer.model.train(mode)
    make_evaluator(trainer).evaluate(TinyLoader())
    assert trainer.model.training is mode


def test_a_part_in_eval_mode_stays_so(make_trainer, make_evaluator):
    trainer = make_trainer()
    trainer.model.train()
    trainer.model.body[1].eval()
    make_evaluator(trainer).evaluate(TinyLoader())
    assert trainer.model.training
    assert trainer.model.head.training
    assert not trainer.model.body[1].training


def test_evaluation_changes_no_weight_and_no_buffer(make_trainer, make_evaluator):
    trainer = make_trainer()
    before = {n: t.clone() for n, t in trainer.model.state_dict().items()}
    make_evaluator(trainer).evaluate(TinyLoader())
    assert all(torch.equal(before[n], t) for n, t in trainer.model.state_dict().items())


def test_a_metric_that_is_undefined_is_nan_not_a_number(make_trainer, make_evaluator):
    loader = TinyLoader()
    for batch in loader.batches:
        batch.target.fill_(1)
    metrics = make_evaluator(make_trainer()).evaluate(loader)
    assert math.isnan(metrics["auroc"])
    assert not math.isnan(metrics["accuracy"])


def test_weights_are_restored_after_a_failed_evaluation(make_trainer, make_evaluator):
    evaluator = make_evaluator(make_trainer())
    opened = []

    @contextmanager
    def weights():
        opened.append("in")
        try:
            yield
        finally:
            opened.append("out")

    broken = TinyLoader()
    broken.batches[2] = None  # type: ignore[call-overload]
    with pytest.raises(AttributeError):
        evaluator.evaluate(broken, weights)
    assert opened == ["in", "out"]
    whole = evaluator.evaluate(TinyLoader())
    assert len(evaluator.metrics.outputs.sample_id) == 20
    assert whole["loss"] > 0


def test_measuring_leaves_the_random_streams_as_they_were(make_trainer, make_evaluator):
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    evaluator = make_evaluator(make_trainer())
    evaluator.add_event_handler(Events.ITERATION_COMPLETED, draw)
    before = capture_rng()
    expected = draw()
    restore_rng(before)
    evaluator.evaluate(TinyLoader())
    assert draw() == expected
