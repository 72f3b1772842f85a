from __future__ import annotations

import io
import math
import random
from dataclasses import replace
from typing import Any

import pytest
import torch
from ignite.engine import Events

from engine import Phase, TrainEvents, UsageError
from engine.checkpointing import load_checkpoint
from engine.optim import learning_rate
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.gradient_clipping import GradientClipping
from handlers.lr_schedule import LRSchedule
from handlers.mixed_precision import MixedPrecision
from handlers.nan_guard import POLICIES, NaNGuard
from tests.no_waiting import refuse_waiting_in_steps
from tests.tiny_problem import TinyLoader

NAN = float("nan")
STEPS = 5  # of an epoch
# Judged as it comes, or left out by the optimizer itself.
HOST: dict[str, Any] = {"check_every": 1}
DEVICE: dict[str, Any] = {"check_every": 2}
PLACES = ("loss", "gradient", "input")


class CutLoader(TinyLoader):
    """Yields NaN in chosen iterations, and can start in the middle of an epoch."""

    def __init__(self, bad=()):
        super().__init__()
        self.batch_sampler = self
        self.bad, self.epoch, self.position = set(bad), 1, 0

    def set_epoch(self, epoch):
        self.epoch, self.position = epoch, 0

    def resume_at(self, epoch, position):
        self.epoch, self.position = epoch, position

    def __iter__(self):
        for i in range(self.position, STEPS):
            batch = self.batches[i]
            if (self.epoch - 1) * STEPS + i + 1 in self.bad:
                batch = replace(batch, spectra=torch.full_like(batch.spectra, NAN))
            yield batch


def inject(trainer, place, iterations, value=NAN):
    """Break these iterations; the loader that goes with them."""
    iterations = set(iterations)

    def in_loss(trainer):
        if trainer.state.iteration in iterations:  # a constant: all gradients stay finite
            losses = trainer.state.losses
            trainer.state.losses = {**losses, "total_loss": losses["total_loss"] + value}

    def in_gradient(trainer):
        if trainer.state.iteration in iterations:
            trainer.model.head.weight.grad[0, 1] = value

    if place == "loss":
        trainer.add_event_handler(TrainEvents.LOSS_COMPLETED, in_loss)
    elif place == "gradient":
        trainer.add_event_handler(TrainEvents.BACKWARD_COMPLETED, in_gradient)
    return CutLoader(iterations if place == "input" else ())


def everything(trainer):
    """Weights, buffers and the optimizer's memory, by name."""
    kept = {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}
    for index, memory in trainer.optimizer.state_dict()["state"].items():
        kept.update({f"{index}.{key}": value.clone() for key, value in memory.items()})
    return kept


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def assert_finite(states):
    for name, tensor in states.items():
        assert bool(torch.isfinite(tensor).all()), name


def notices(trainer):
    seen = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: seen.append(dict(t.state.notice)))
    return seen


def watch(trainer, iteration):
    """What there is just before and just after an iteration, once it is over."""
    before: dict[str, torch.Tensor] = {}
    after: dict[str, torch.Tensor] = {}
    trainer.add_event_handler(
        Events.ITERATION_STARTED(once=iteration), lambda t: before.update(everything(t))
    )
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=iteration), lambda t: after.update(everything(t))
    )
    return before, after


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("judged", [HOST, DEVICE])
@pytest.mark.parametrize("policy", ["skip", "stop"])
def test_a_bad_step_moves_no_weight_no_momentum_and_no_buffer(make_trainer, policy, judged, place):
    trainer = make_trainer()
    loader = inject(trainer, place, [7])
    trainer.attach(NaNGuard(policy, **judged))
    before, after = watch(trainer, 7)
    trainer.fit(loader, 3)
    assert_equal(before, after)
    assert_finite(everything(trainer))


@pytest.mark.parametrize("judged", [HOST, DEVICE])
def test_without_the_guard_the_same_step_ruins_the_weights(make_trainer, judged):
    trainer = make_trainer()
    trainer.fit(inject(trainer, "gradient", [7]), 2)
    assert trainer.model.head.weight.isnan().any()


@pytest.mark.parametrize("judged", [HOST, DEVICE])
def test_a_run_with_a_bad_step_is_the_run_without_it(make_trainer, judged):
    """On the host the step is not counted, on the device it is; the weights are the same."""
    results = []
    for guarded in (True, False):
        trainer = make_trainer()
        if guarded:
            loader = inject(trainer, "gradient", [4])
            trainer.attach(NaNGuard(**judged))
        else:
            loader = CutLoader()
            buffers: list[torch.Tensor] = []
            trainer.add_event_handler(
                Events.ITERATION_STARTED(once=4),
                lambda t, kept=buffers: kept.extend(b.clone() for b in t.model.buffers()),
            )

            def leave_out(t, kept=buffers):
                t.state.skip_step = True
                for buffer, value in zip(t.model.buffers(), kept, strict=True):
                    buffer.copy_(value)

            trainer.add_event_handler(TrainEvents.GRADIENTS_READY(once=4), leave_out)
        torch.manual_seed(3)
        trainer.fit(loader, 3)
        results.append(everything(trainer))
        assert trainer.state.optimizer_step == 3 * STEPS - 1
    assert_equal(*results)


@pytest.mark.parametrize("judged", [HOST, DEVICE])
def test_a_guard_with_nothing_to_do_changes_nothing(make_trainer, judged):
    results = []
    for handlers in ([NaNGuard("rollback", **judged)], []):
        trainer = make_trainer()
        trainer.attach(*handlers)
        torch.manual_seed(3)
        trainer.fit(CutLoader(), 3)
        results.append(everything(trainer))
    assert_equal(*results)


@pytest.mark.slow
@pytest.mark.parametrize("judged", [HOST, DEVICE])
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(3))
def test_no_checkpoint_ever_holds_a_nan(make_trainer, policy, judged, seed):
    trainer, choose = make_trainer(), random.Random(seed)
    place, iteration = choose.choice(PLACES), choose.randint(1, 4 * STEPS)
    loader = inject(trainer, place, [iteration])
    trainer.attach(
        NaNGuard(policy, **judged),
        GradientClipping(0.1),
        Checkpoint(monitor=None, save_top_k=0, save_best=False, every_steps=1),
    )
    last, checked = trainer.run_dir / "checkpoints" / "last.pt", []

    def check():
        if last.exists():
            states = load_checkpoint(last)["states"]
            assert_finite(states["model"])
            for memory in states["optimizer"]["state"].values():
                assert_finite(memory)
            checked.append(states["trainer"]["iteration"])

    trainer.add_event_handler(Events.ITERATION_COMPLETED, check, phase=Phase.REPORT)
    trainer.add_event_handler(Events.COMPLETED, check, phase=Phase.REPORT)
    trainer.fit(loader, 4)
    assert checked[-1] == trainer.state.iteration
    assert_finite(everything(trainer))


@pytest.mark.parametrize("judged", [HOST, DEVICE])
def test_skipped_steps_are_counted_by_epoch_and_announced(make_trainer, judged):
    trainer, counts = make_trainer(), []
    seen = notices(trainer)
    loader = inject(trainer, "gradient", [2, 3, 8])
    trainer.attach(NaNGuard(**judged))
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda t: counts.append(t.state.metrics["train/skipped_steps"])
    )
    trainer.check_monitors()
    trainer.monitor_metric("train/skipped_steps", "a user")
    trainer.fit(loader, 3)
    assert counts == [2.0, 1.0, 0.0]
    summary = [notice for notice in seen if notice["event"] == "steps_skipped"]
    assert summary == [
        {"event": "steps_skipped", "epoch": 1, "steps": 2},
        {"event": "steps_skipped", "epoch": 2, "steps": 1},
    ]


def test_the_first_of_several_in_a_row_is_named(make_trainer):
    trainer = make_trainer()
    seen = notices(trainer)
    loader = inject(trainer, "gradient", [2, 3, 5])
    inject(trainer, "loss", [5])
    trainer.attach(NaNGuard())
    trainer.fit(loader, 1)
    assert [n for n in seen if n["event"] == "step_skipped"] == [
        {
            "event": "step_skipped",
            "epoch": 1,
            "iteration": 2,
            "message": "the gradient of head.weight is not finite",
        },
        {"event": "step_skipped", "epoch": 1, "iteration": 5, "message": "the loss is not finite"},
    ]


@pytest.mark.parametrize(("judged", "ends_at"), [(HOST, 7), (DEVICE, 8), ({"check_every": 50}, 10)])
def test_stop_ends_the_training_where_it_looks(make_trainer, judged, ends_at):
    trainer = make_trainer()
    seen = notices(trainer)
    loader = inject(trainer, "loss", [7])
    trainer.attach(NaNGuard("stop", **judged))
    trainer.fit(loader, 4)
    assert trainer.state.iteration == ends_at
    (stopped,) = [notice for notice in seen if notice["event"] == "training_stopped"]
    assert (stopped["epoch"], stopped["iteration"]) == (2, ends_at)
    assert "not finite" in stopped["message"]


@pytest.mark.parametrize("judged", [HOST, {"check_every": 7}])
@pytest.mark.parametrize("place", PLACES)
def test_rollback_restores_the_last_epoch_with_a_lower_rate(make_trainer, judged, place):
    trainer, good = make_trainer(lr=0.02), {}
    seen = notices(trainer)
    loader = inject(trainer, place, [7])
    trainer.attach(NaNGuard("rollback", lr_factor=0.25, **judged))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda t: good.update(everything(t)))
    _, after = watch(trainer, 7)
    trainer.fit(loader, 3)
    assert_equal(good, after)
    assert learning_rate(trainer.optimizer) == pytest.approx(0.005)
    (rolled,) = [notice for notice in seen if notice["event"] == "rolled_back"]
    assert (rolled["iteration"], rolled["to_iteration"]) == (7, STEPS)
    assert rolled["lr"] == pytest.approx(0.005)
    assert trainer.state.iteration == 3 * STEPS
    assert_finite(everything(trainer))


@pytest.mark.parametrize("judged", [HOST, {"check_every": 2}])
def test_before_the_first_epochs_end_rollback_goes_to_the_start(make_trainer, judged):
    trainer, start = make_trainer(), {}
    loader = inject(trainer, "gradient", [2])
    trainer.attach(NaNGuard("rollback", **judged))
    start.update(everything(trainer))
    _, after = watch(trainer, 2)
    trainer.fit(loader, 1)
    assert_equal(start, {name: after[name] for name in start})


def test_what_is_rolled_back_to_stays_good_when_it_is_used_twice(make_trainer):
    trainer, good = make_trainer(), {}
    loader = inject(trainer, "gradient", [7, 9])
    trainer.attach(NaNGuard("rollback"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda t: good.update(everything(t)))
    _, after = watch(trainer, 9)
    trainer.fit(loader, 2)
    assert_equal(good, after)
    assert learning_rate(trainer.optimizer) == pytest.approx(0.01 / 4)


def test_infinite_weights_are_rolled_back_at_the_epochs_end(make_trainer):
    trainer, good = make_trainer(), {}
    seen = notices(trainer)
    trainer.attach(NaNGuard("rollback"))
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=1), lambda t: good.update(everything(t)))

    def overflow(trainer):
        with torch.no_grad():
            trainer.model.head.bias.fill_(float("inf"))

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=2 * STEPS), overflow)
    trainer.fit(CutLoader(), 2)
    assert_equal(good, everything(trainer))
    assert seen[-1]["message"] == "the weights are not finite"


@pytest.mark.parametrize("first", ["guard", "schedule"])
def test_the_lower_rate_lasts_under_a_schedule(make_trainer, first):
    rates = []
    for bad in ([], [7]):
        trainer = make_trainer(lr=0.02)
        seen: list[float] = []
        loader = inject(trainer, "gradient", bad)
        handlers = [NaNGuard("rollback", lr_factor=0.5), LRSchedule("cosine", total_steps=20)]
        trainer.attach(*(handlers if first == "guard" else handlers[::-1]))
        trainer.add_event_handler(
            TrainEvents.OPTIMIZER_STEPPED,
            lambda t, seen=seen: seen.append(learning_rate(t.optimizer)),
            phase=Phase.RECORD,
        )
        trainer.fit(loader, 3)
        rates.append(seen)
    undisturbed, lowered = rates
    assert lowered[:6] == undisturbed[:6]
    assert lowered[6:] == pytest.approx([rate / 2 for rate in undisturbed[6:-1]])


@pytest.mark.parametrize("judged", [HOST, DEVICE])
@pytest.mark.parametrize("policy", POLICIES)
def test_too_many_in_a_row_end_the_training_under_any_policy(make_trainer, policy, judged):
    trainer = make_trainer()
    seen = notices(trainer)
    loader = inject(trainer, "gradient", [2, 3, 5, 6, 7, 8, 9, 10])
    trainer.attach(NaNGuard(policy, max_skips=2, **judged))
    trainer.fit(loader, 4)
    ends = {"stop": 2}.get(policy, 7 if judged is HOST else 8)
    assert trainer.state.iteration == ends
    if policy != "stop":
        (stopped,) = [notice for notice in seen if notice["event"] == "training_stopped"]
        assert "in a row were not finite; nan_guard.max_skips is 2" in stopped["message"]


@pytest.mark.parametrize("judged", [HOST, DEVICE])
def test_a_bad_micro_batch_costs_its_whole_window_and_no_other(make_trainer, judged):
    trainer = make_trainer()
    loader = inject(trainer, "loss", [2])  # of the windows (1 2 3) (4 5)
    trainer.attach(Accumulation(3), NaNGuard(**judged))
    before, _ = watch(trainer, 1)
    _, after = watch(trainer, 3)
    trainer.fit(loader, 1)
    assert_equal(before, {name: after[name] for name in before})
    assert not torch.equal(trainer.model.head.weight, before["head.weight"])
    assert trainer.state.metrics["train/skipped_steps"] == 1


def build(make_trainer, policy, judged, seed=0):
    trainer = make_trainer(seed)
    loader = inject(trainer, "gradient", [6, 7, 9, 12])
    trainer.attach(NaNGuard(policy, max_skips=4, **judged), GradientClipping(0.5))
    return trainer, loader


@pytest.mark.parametrize("judged", [HOST, DEVICE, {"check_every": 50}])
@pytest.mark.parametrize("policy", ["skip", "rollback"])
@pytest.mark.parametrize("cut_at", [3, 6, 7, 8, 10, 13])
def test_a_run_cut_anywhere_continues_identically(make_trainer, policy, judged, cut_at):
    straight, loader = build(make_trainer, policy, judged)
    rows = notices(straight)
    torch.manual_seed(5)
    straight.fit(loader, 4)

    cut, loader = build(make_trainer, policy, judged)
    cut_rows, states = notices(cut), {}

    def save_and_leave(trainer):
        states.update(through_a_file(trainer.capture()))
        trainer.terminate()

    event = Events.EPOCH_COMPLETED(once=2) if cut_at == 10 else None
    cut.add_event_handler(
        event or Events.ITERATION_COMPLETED(once=cut_at), save_and_leave, phase=Phase.SAVE
    )
    torch.manual_seed(5)
    cut.fit(loader, 4)

    resumed, loader = build(make_trainer, policy, judged, seed=9)
    resumed_rows = notices(resumed)
    resumed.restore(states)
    resumed.fit(loader, 4)
    assert_equal(everything(straight), everything(resumed))
    assert cut_rows + resumed_rows == rows
    assert straight.state.metrics["train/skipped_steps"] == 0
    for name, value in straight.state.metrics.items():
        assert value == resumed.state.metrics[name] or math.isnan(value)
    assert learning_rate(straight.optimizer) == learning_rate(resumed.optimizer)


def test_the_state_at_an_epochs_end_holds_the_weights_once(make_trainer):
    trainer, guard = make_trainer(), NaNGuard("rollback")
    trainer.attach(guard)
    kept = {}
    for event in (Events.EPOCH_COMPLETED(once=1), Events.ITERATION_COMPLETED(once=7)):
        trainer.add_event_handler(
            event, lambda t: kept.update({t.state.iteration: guard.state_dict()["snapshot"]})
        )
    trainer.fit(CutLoader(), 2)
    assert kept[STEPS] is None
    assert kept[7]["tensors"]


# -- on the device --------------------------------------------------------------------------


@pytest.mark.parametrize("optimizer", [{}, {"name": "sgd", "momentum": 0.9, "fused": True}])
def test_no_step_waits_where_the_optimizer_leaves_it_out(make_trainer, optimizer):
    trainer = make_trainer(**optimizer)
    loader = inject(trainer, "gradient", [2])
    trainer.attach(NaNGuard("rollback", max_skips=9, check_every=50))
    refuse_waiting_in_steps(trainer)
    trainer.fit(loader, 1)
    assert trainer.state.metrics["train/skipped_steps"] == 1


def test_judging_each_step_does_ask(make_trainer):
    trainer = make_trainer()
    trainer.attach(NaNGuard(check_every=1))
    refuse_waiting_in_steps(trainer)
    with pytest.raises(AssertionError, match="waits for the device"):
        trainer.fit(CutLoader(), 1)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_fused_sgd_survives_a_bad_first_step(make_trainer, momentum):
    results = []
    for judged in (HOST, DEVICE):
        trainer = make_trainer(name="sgd", fused=True, momentum=momentum)
        loader = inject(trainer, "gradient", [1])
        trainer.attach(NaNGuard(**judged))
        torch.manual_seed(2)
        trainer.fit(loader, 2)
        results.append(dict(trainer.model.named_parameters()))
    assert_equal(*results)


def test_no_verdict_is_left_behind_in_the_optimizer(make_trainer):
    trainer = make_trainer()
    loader = inject(trainer, "gradient", [5])
    trainer.attach(NaNGuard(**DEVICE))
    trainer.fit(loader, 1)
    assert not hasattr(trainer.optimizer, "found_inf")


def test_check_every_refuses_an_optimizer_that_waits(
    make_trainer,
):
    trainer = make_trainer(fused=False)
    trainer.attach(NaNGuard(check_every=10))
    with pytest.raises(UsageError, match=r"check_every must be 1: AdamW cannot .* fused: true"):
        trainer.fit(CutLoader(), 1)
    assert trainer.state.iteration == 0


def test_an_optimizer_that_is_not_fused_is_guarded_step_by_step(make_trainer):
    trainer = make_trainer(fused=False)
    loader = inject(trainer, "gradient", [3])
    trainer.attach(NaNGuard())
    before, after = watch(trainer, 3)
    trainer.fit(loader, 1)
    assert_equal(before, after)


# -- beside a scaler of the loss ------------------------------------------------------------


def scaled(make_trainer, **optimizer):
    trainer = make_trainer(**optimizer)
    precision = MixedPrecision("fp32")
    trainer.attach(precision)
    # As on a GPU in fp16, where this scaler would be made.
    precision.scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)
    return trainer


def overflow(trainer, iterations):
    """Infinite gradients from a finite loss, as the scale causes them."""
    trainer.add_event_handler(
        TrainEvents.BACKWARD_COMPLETED,
        lambda t: t.state.iteration in iterations and t.model.head.bias.grad.fill_(float("inf")),
    )


@pytest.mark.parametrize("judged", [HOST, DEVICE])
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("policy", POLICIES)
def test_an_overflow_is_the_scalers_to_answer(make_trainer, policy, judged, fused):
    trainer = scaled(make_trainer, fused=fused)
    seen = notices(trainer)
    overflow(trainer, {3})
    trainer.attach(NaNGuard(policy, **judged))
    before, after = watch(trainer, 3)
    trainer.fit(CutLoader(), 1)
    assert_equal(before, after)
    assert trainer.precision.scaler.get_scale() == 512.0
    assert trainer.state.iteration == STEPS
    assert trainer.state.metrics["train/skipped_steps"] == 1
    assert {"rolled_back", "training_stopped"}.isdisjoint(n["event"] for n in seen)
    assert learning_rate(trainer.optimizer) == 0.01


@pytest.mark.parametrize("judged", [HOST, DEVICE])
@pytest.mark.parametrize("fused", [True, False])
def test_a_bad_loss_with_finite_gradients_is_left_out_in_fp16(make_trainer, judged, fused):
    trainer = scaled(make_trainer, fused=fused)
    loader = inject(trainer, "loss", [3])
    trainer.attach(NaNGuard("stop", **judged))
    before, after = watch(trainer, 3)
    trainer.fit(loader, 1)
    assert_equal(before, after)
    assert trainer.state.iteration == (3 if judged is HOST else 4)


# -- settings -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"policy": "rolback"}, "nan_guard.policy: there is no 'rolback'.*did you mean 'rollback'"),
        ({"max_skips": -1}, "nan_guard.max_skips: a whole number at least 0"),
        ({"lr_factor": 0}, "nan_guard.lr_factor must be above 0"),
        ({"lr_factor": 1.5}, "nan_guard.lr_factor: a number between 0 and 1 was expected"),
        ({"lr_factor": NAN}, "nan_guard.lr_factor: a number between 0 and 1 was expected"),
        ({"check_every": 0}, "nan_guard.check_every: a whole number at least 1"),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        NaNGuard(**settings)


def test_rollback_refuses_weights_broken_before_training(make_trainer):
    trainer = make_trainer()
    trainer.attach(NaNGuard("rollback"))
    with torch.no_grad():
        trainer.model.head.bias[0] = NAN
    with pytest.raises(UsageError, match=r"nan_guard: head.bias is not finite before any"):
        trainer.fit(CutLoader(), 1)
