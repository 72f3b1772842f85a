from __future__ import annotations

from contextlib import contextmanager

import pytest
import torch
from ignite.engine import Events

from engine import Phase, UsageError
from handlers.validation import Validation
from tests.tiny_problem import TinyLoader


def attach(trainer, make_evaluator, **settings):
    validation = Validation(make_evaluator(trainer), TinyLoader(seed=1), **settings)
    validation.attach(trainer)
    return validation


def measured_epochs(trainer, name="val/loss"):
    epochs = []

    @trainer.on(Events.EPOCH_COMPLETED)
    def look(trainer):
        if name in trainer.state.metrics:
            epochs.append(trainer.state.epoch)

    return epochs


def test_metrics_are_added_to_those_of_training(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    validation = attach(trainer, make_evaluator)
    trainer.fit(loader, 2)
    expected = validation.evaluator.evaluate(validation.loader)
    metrics = trainer.state.metrics
    assert {name: metrics[f"val/{name}"] for name in expected} == expected
    assert metrics["train/loss"] != metrics["val/loss"]


def test_the_names_are_known_before_training(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    attach(trainer, make_evaluator, loss_terms=["total_loss", "auxiliary"])
    for name in ("val/loss", "val/auroc", "val/auxiliary"):
        trainer.monitor_metric(name, "test")
    trainer.check_monitors()
    trainer.monitor_metric("val/auric", "test")
    with pytest.raises(UsageError, match="did you mean 'val/auroc'"):
        trainer.check_monitors()


def test_epochs_that_are_not_due_hold_no_old_values(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    attach(trainer, make_evaluator, every=2)
    epochs = measured_epochs(trainer)
    trainer.fit(loader, 5)
    assert epochs == [2, 4, 5]  # 5: the budget's last


def test_a_metric_that_no_longer_comes_is_removed(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    attach(trainer, make_evaluator)
    trainer.state.metrics["val/of_another_time"] = 1.0
    trainer.state.metrics["train/stays"] = 1.0
    trainer.fit(loader, 1)
    assert "val/of_another_time" not in trainer.state.metrics
    assert "train/stays" in trainer.state.metrics


def test_a_continued_run_keeps_to_its_epochs(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    attach(trainer, make_evaluator, every=2)
    trainer.fit(loader, 3)
    epochs = measured_epochs(trainer)
    trainer.fit(loader, 6)
    assert epochs == [4, 6]


@pytest.mark.parametrize("training", [True, False])
def test_the_model_comes_back_in_the_mode_it_was_in(make_trainer, make_evaluator, loader, training):
    trainer, modes = make_trainer(), []
    attach(trainer, make_evaluator)
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: trainer.model.train(training), phase=Phase.PREPARE
    )
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: modes.append(trainer.model.training), phase=Phase.DECIDE
    )
    trainer.fit(loader, 1)
    assert modes == [training]


def test_measuring_does_not_touch_training(make_trainer, make_evaluator, loader):
    trainer, plain = make_trainer(), make_trainer()
    attach(trainer, make_evaluator)
    for each in (trainer, plain):
        torch.manual_seed(1)
        each.fit(loader, 3)
    for mine, other in zip(
        trainer.model.state_dict().values(), plain.model.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, other)


def test_it_measures_with_the_weights_that_it_is_given(make_trainer, make_evaluator, loader):
    trainer, inside = make_trainer(), []

    @contextmanager
    def zeros():
        live = trainer.model.head.weight.detach().clone()
        trainer.model.head.weight.data.zero_()
        trainer.model.head.bias.data.zero_()
        inside.append(True)
        yield
        trainer.model.head.weight.data.copy_(live)

    attach(trainer, make_evaluator, weights=zeros)
    trainer.fit(loader, 2)
    assert inside == [True, True]
    assert trainer.state.metrics["val/loss"] == pytest.approx(0.6931, abs=1e-4)
    assert float(trainer.model.head.weight.detach().abs().max()) > 0


def test_a_stopped_evaluation_gives_no_values(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    validation = attach(trainer, make_evaluator)
    trainer.fit(loader, 1)
    assert "val/loss" in trainer.state.metrics
    validation.evaluator.add_event_handler(
        Events.ITERATION_COMPLETED(once=2), validation.evaluator.terminate
    )
    trainer.fit(loader, 2)
    assert "val/loss" not in trainer.state.metrics


def test_it_runs_before_whoever_acts_on_the_metrics():
    assert Validation.phase < Phase.DECIDE < Phase.RECORD


@pytest.mark.parametrize("every", [0, 1.5, "1", True])
def test_an_interval_that_is_no_count_is_refused(make_trainer, make_evaluator, every):
    with pytest.raises(UsageError, match=r"validation.every: a whole number"):
        attach(make_trainer(), make_evaluator, every=every)
