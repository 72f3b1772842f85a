from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Events

import handlers.step_log
from engine import Phase, TrainEvents, UsageError
from engine.checkpointing import load_checkpoint
from engine.losses import CrossEntropy, OutputNorm, Term, WeightedLoss
from engine.reporting import read_log
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.gradient_clipping import GradientClipping
from handlers.gradient_norm import GradientNorm
from handlers.loss_weights import LossWeights
from handlers.lr_schedule import LRSchedule
from handlers.nan_guard import NaNGuard
from handlers.run_log import RunLog
from handlers.step_log import StepLog
from handlers.tensorboard_log import TensorBoard
from tests.engine.optim.test_left_out_steps import Cut
from tests.engine.optim.test_left_out_steps import build as with_left_out_steps
from tests.handlers.step_log_work import steps_of
from tests.handlers.test_tensorboard_log import read
from tests.no_waiting import refuse_waiting_in_steps


def logged(trainer):
    """The steps of the log, without times."""
    rows = read_log(trainer.run_dir / "log.jsonl")
    return [{k: row[k] for k in row if k != "time"} for row in rows if row["event"] == "step"]


def steps(trainer):
    return [row["optimizer_step"] for row in logged(trainer)]


def with_log(trainer, *others, every=1):
    trainer.attach(RunLog(), *others, StepLog(every))
    return trainer


def last_only():
    return Checkpoint(monitor=None, save_top_k=0, save_best=False)


def test_each_step_has_its_loss_rate_and_gradient_norm(make_trainer, loader):
    trainer, expected = make_trainer(), []
    with_log(trainer, LRSchedule("cosine", warmup_steps=3))

    def look(trainer):
        gradients = [p.grad for p in trainer.model.parameters()]
        expected.append(
            {
                "event": "step",
                "epoch": trainer.state.epoch,
                "iteration": trainer.state.iteration,
                "optimizer_step": trainer.state.optimizer_step + 1,
                "lr": trainer.optimizer.param_groups[0]["lr"],
                "gradient_norm": pytest.approx(float(torch.nn.utils.get_total_norm(gradients))),
                "losses": {"total_loss": float(trainer.state.losses["total_loss"])},
            }
        )

    trainer.add_event_handler(TrainEvents.GRADIENTS_READY, look, phase=Phase.PREPARE)
    trainer.fit(loader, 2)
    assert len(expected) == 10
    assert logged(trainer) == expected


def test_each_so_many_steps_are_logged(make_trainer, loader):
    trainer = with_log(make_trainer(), every=3)
    trainer.fit(loader, 2)
    assert steps(trainer) == [3, 6, 9]


def test_with_0_no_step_is_logged(make_trainer, loader):
    trainer = with_log(make_trainer(), every=0)
    trainer.fit(loader, 1)
    assert steps(trainer) == []


def test_an_accumulated_step_has_the_mean_of_its_micro_batches(make_trainer, loader):
    trainer, losses = with_log(make_trainer(), Accumulation(2)), []
    trainer.add_event_handler(
        TrainEvents.BACKWARD_COMPLETED,
        lambda: losses.append(float(trainer.state.losses["total_loss"])),
    )
    trainer.fit(loader, 1)  # of five batches the last is a step by itself
    means = [(losses[0] + losses[1]) / 2, (losses[2] + losses[3]) / 2, losses[4]]
    assert [row["losses"]["total_loss"] for row in logged(trainer)] == pytest.approx(means)
    assert [row["iteration"] for row in logged(trainer)] == [2, 4, 5]


@pytest.mark.parametrize("moving", [False, True])
def test_an_accumulated_total_is_that_of_its_terms(make_trainer, loader, moving):
    terms = {
        "main_loss": Term(CrossEntropy(class_weights=[1.0, 8.0])),
        "size_loss": Term(OutputNorm(), weight=0.5),
    }
    weights = (
        {"main_loss": 3.0, "size_loss": 0.25} if moving else {"main_loss": 1, "size_loss": 0.5}
    )
    trainer = make_trainer()
    trainer.loss = WeightedLoss(terms)
    trainer.total = trainer.loss.total
    others = [LossWeights(weights)] if moving else []
    with_log(trainer, Accumulation(3), *others)
    trainer.fit(loader, 1)
    for row in logged(trainer):
        made = sum(weight * row["losses"][name] for name, weight in weights.items())
        assert row["losses"]["total_loss"] == pytest.approx(made, rel=1e-6)


def test_the_norm_is_that_before_clipping_and_measured_once(make_trainer, loader, monkeypatch):
    monkeypatch.setattr(handlers.step_log, "joint_norm", lambda _: pytest.fail("measured again"))
    trainer, norms = with_log(make_trainer(), GradientClipping(1e-3)), []
    trainer.add_event_handler(
        TrainEvents.OPTIMIZER_STEPPED, lambda: norms.append(float(trainer.state.gradient_norm))
    )
    trainer.fit(loader, 1)
    assert min(norms) > 1e-2
    assert [row["gradient_norm"] for row in logged(trainer)] == norms


def test_a_norm_of_an_earlier_step_is_never_taken(make_trainer, loader):
    found = []
    for others in ([], [GradientNorm(every=2)]):
        trainer = with_log(make_trainer(), *others)
        trainer.fit(loader, 2)
        found.append(logged(trainer))
    assert found[0] == found[1]
    assert len({row["gradient_norm"] for row in found[0]}) == 10


def test_a_vetoed_step_has_no_line(make_trainer, loader):
    trainer = with_log(make_trainer(), NaNGuard())

    @trainer.on(TrainEvents.BACKWARD_COMPLETED(once=3), phase=Phase.PREPARE)
    def spoil(trainer):
        trainer.model.head.weight.grad[0, 0] = math.nan

    trainer.fit(loader, 1)
    assert [(row["iteration"], row["optimizer_step"]) for row in logged(trainer)] == [
        (1, 1),
        (2, 2),
        (4, 3),
        (5, 4),
    ]


@pytest.mark.parametrize("every", [1, 2, 6])
def test_a_step_that_the_device_left_out_has_no_line(make_trainer, every):
    found = {}
    for where in ("host", "device"):
        trainer, _ = with_left_out_steps(make_trainer, where)
        with_log(trainer, every=every)
        trainer.fit(Cut(), 2)
        found[where] = [(row["iteration"], row["optimizer_step"]) for row in logged(trainer)]
        (trainer.run_dir / "log.jsonl").unlink()
    assert found["device"] == found["host"]
    assert [step for _, step in found["host"]] == list(range(every, 22, every))


def test_nothing_is_asked_of_the_device_in_a_step(make_trainer, loader):
    trainer = with_log(make_trainer(), GradientClipping(1.0))
    refuse_waiting_in_steps(trainer)
    trainer.fit(loader, 2)
    assert len(steps(trainer)) == 10


def test_what_is_held_is_bounded_within_an_epoch_too(make_trainer, loader, monkeypatch):
    monkeypatch.setattr(handlers.step_log, "HELD_STEPS", 2)
    trainer, seen = with_log(make_trainer()), []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED, lambda: seen.append(len(steps(trainer))), phase=Phase.REPORT
    )
    trainer.fit(loader, 1)
    assert seen == [0, 2, 2, 4, 4]
    assert steps(trainer) == [1, 2, 3, 4, 5]


@pytest.mark.parametrize("stop_at", [2, 5, 8])
@pytest.mark.parametrize("every", [1, 2])
def test_a_stopped_run_has_all_its_steps_and_resumed_each_once(
    make_trainer, loader, stop_at, every
):
    # In the order that makes it hardest: what is held is saved after the log's end is.
    trainer = with_log(make_trainer(), last_only(), every=every)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=stop_at), lambda: trainer.terminate())
    trainer.fit(loader, 3)
    assert steps(trainer) == [n for n in range(1, stop_at + 1) if n % every == 0]

    continued = with_log(make_trainer(), last_only(), every=every)
    saved = load_checkpoint(trainer.run_dir / "checkpoints" / "last.pt")
    continued.restore(saved["states"])
    continued.fit(loader, 3)
    assert steps(continued) == [n for n in range(1, 16) if n % every == 0]


def test_a_run_that_fails_leaves_the_steps_that_it_made(make_trainer, loader):
    trainer, log = make_trainer(), StepLog()
    trainer.attach(RunLog(), log)

    @trainer.on(Events.ITERATION_STARTED(once=4))
    def fail(trainer):
        raise RuntimeError("a bug")

    with pytest.raises(RuntimeError, match="a bug"):
        trainer.fit(loader, 1)
    log.close()
    assert steps(trainer) == [1, 2, 3]


def test_a_checkpoint_from_before_there_were_steps_is_continued(make_trainer, loader):
    trainer, states = make_trainer(), {}
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED(once=1), lambda: states.update(trainer.capture()), phase=Phase.SAVE
    )
    trainer.fit(loader, 1)
    continued = make_trainer()
    continued.attach(StepLog())
    continued.restore(states)
    assert continued.state.optimizer_step == 5


def test_tensorboard_has_each_step_once_in_a_folder_of_their_own(make_trainer, loader):
    trainer, states = make_trainer(), {}
    trainer.attach(StepLog(), TensorBoard())
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=7), lambda: states.update(trainer.capture())
    )
    trainer.fit(loader, 2)  # the steps from 8 on come again
    continued = make_trainer()
    continued.attach(StepLog(), TensorBoard())
    continued.restore(states)
    continued.fit(loader, 3)
    scalars = read(trainer.run_dir / "events" / "steps")
    assert scalars.keys() == {"lr", "gradient_norm", "total_loss"}
    for values in scalars.values():
        assert [step for step, _ in values] == list(range(1, 16))
    assert "total_loss" not in read(trainer.run_dir / "events")


def test_of_two_processes_the_first_logs_the_step_of_both(two_processes):
    first, second = (each["steps"] for each in two_processes["tests.handlers.step_log_work"])
    alone = steps_of(joint=2)
    assert second == []
    assert [row["optimizer_step"] for row in first] == [row["optimizer_step"] for row in alone]
    for row, expected in zip(first, alone, strict=True):
        assert row["losses"] == pytest.approx(expected["losses"], abs=1e-9)
        assert row["gradient_norm"] == pytest.approx(expected["gradient_norm"], abs=1e-9)


def test_a_negative_number_is_refused():
    with pytest.raises(
        UsageError, match=r"step_log\.every: a whole number at least 0 was expected, not -1"
    ):
        StepLog(-1)
