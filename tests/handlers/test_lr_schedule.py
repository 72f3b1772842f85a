from __future__ import annotations

import math
import time

import pytest
import torch
from ignite.engine import Events
from torch.optim import SGD
from torch.optim.lr_scheduler import CosineAnnealingLR, OneCycleLR, ReduceLROnPlateau, StepLR

from engine import Phase, TrainEvents, UsageError
from engine.optim import GroupSettings
from handlers.lr_schedule import LRSchedule
from tests.tiny_problem import TinyLoader

FULL = 0.01
STEPS = 20  # four epochs of five batches


def fit(trainer, loader, schedule, epochs=4, scores=None):
    """Train; the rate that each step used."""
    used = []
    # GRADIENTS_READY is the last event before the step.
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY, lambda t: used.append(t.optimizer.param_groups[0]["lr"])
    )
    if scores is not None:
        trainer.provide_metrics("val/loss")

        def measure(trainer):
            trainer.state.metrics.pop("val/loss", None)
            if scores[trainer.state.epoch - 1] is not None:
                trainer.state.metrics["val/loss"] = scores[trainer.state.epoch - 1]

        trainer.add_event_handler(Events.EPOCH_COMPLETED, measure, phase=Phase.MEASURE)
    if schedule is not None:
        trainer.attach(schedule)
    trainer.fit(loader, epochs)
    return used


def by_torch(make_scheduler, steps=STEPS):
    optimizer = SGD([torch.zeros(1)], lr=FULL)
    scheduler, used = make_scheduler(optimizer), []
    for _ in range(steps):
        used.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return used


def test_cosine_is_torchs(make_trainer, loader):
    used = fit(make_trainer(), loader, LRSchedule("cosine", min_lr=0.001))
    expected = by_torch(lambda o: CosineAnnealingLR(o, T_max=STEPS, eta_min=0.001))
    assert used == pytest.approx(expected)


def test_step_is_torchs(make_trainer, loader):
    expected = by_torch(lambda o: StepLR(o, step_size=10, gamma=0.5))
    assert fit(make_trainer(), loader, LRSchedule("step", step_epochs=2, gamma=0.5)) == (
        pytest.approx(expected)
    )
    expected = by_torch(lambda o: StepLR(o, step_size=3, gamma=0.5))
    assert fit(make_trainer(), loader, LRSchedule("step", step_size=3, gamma=0.5)) == (
        pytest.approx(expected)
    )


def test_one_cycle_is_torchs(make_trainer, loader):
    used = fit(make_trainer(), loader, LRSchedule("one_cycle"))
    expected = by_torch(
        lambda o: OneCycleLR(o, max_lr=FULL, total_steps=STEPS, cycle_momentum=False), STEPS - 1
    )
    assert used[:-1] == pytest.approx(expected)
    assert used[-1] == pytest.approx(FULL / 25 / 1e4)


def test_one_cycle_rises_for_the_steps_of_the_warm_up(make_trainer, loader):
    used = fit(make_trainer(), loader, LRSchedule("one_cycle", warmup_steps=12))
    assert used.index(max(used)) == 12
    assert max(used) == pytest.approx(FULL)


def test_constant_stays(make_trainer, loader):
    assert fit(make_trainer(), loader, LRSchedule("constant")) == [FULL] * STEPS


@pytest.mark.parametrize("name", ["cosine", "step", "plateau", "constant"])
def test_the_warm_up_is_a_straight_line_to_the_full_rate(make_trainer, loader, name):
    schedule = LRSchedule(name, warmup_steps=4, warmup_start=0.5, monitor="train/loss")
    used = fit(make_trainer(), loader, schedule)
    assert used[:5] == pytest.approx([FULL * share for share in (0.6, 0.7, 0.8, 0.9, 1.0)])


def test_no_step_is_lost_on_a_rate_of_zero(make_trainer, loader):
    assert fit(make_trainer(), loader, LRSchedule(warmup_steps=4))[0] == pytest.approx(FULL / 5)


def test_after_the_warm_up_the_cosine_has_the_rest_of_the_run(make_trainer, loader):
    used = fit(make_trainer(), loader, LRSchedule(warmup_steps=4))
    expected = by_torch(lambda o: CosineAnnealingLR(o, T_max=STEPS - 4), STEPS - 4)
    assert used[4:] == pytest.approx(expected)


def test_optimizer_steps_are_counted_not_batches(make_trainer, loader):
    """Windows of two over five batches: three steps an epoch, the last window is shorter."""
    trainer = make_trainer()
    trainer.state.accumulate_steps = 2

    def window(trainer):
        position = (trainer.state.iteration - 1) % 5
        trainer.state.sync_gradients = position in (1, 3, 4)

    trainer.add_event_handler(Events.ITERATION_STARTED, window)
    used = fit(trainer, loader, LRSchedule("cosine"))
    assert used == pytest.approx(by_torch(lambda o: CosineAnnealingLR(o, T_max=12), 12))


def test_a_vetoed_step_does_not_move_the_rate(make_trainer, loader):
    trainer = make_trainer()

    def veto(trainer):
        trainer.state.skip_step = trainer.state.iteration == 2

    trainer.add_event_handler(TrainEvents.GRADIENTS_READY, veto)
    used = fit(trainer, loader, LRSchedule("cosine"))
    expected = by_torch(lambda o: CosineAnnealingLR(o, T_max=STEPS))
    assert used[:4] == pytest.approx([expected[0], expected[1], expected[1], expected[2]])


def test_each_group_keeps_its_own_full_rate(make_trainer, loader):
    trainer = make_trainer()
    trainer.optimizer.param_groups[1]["lr"] = 0.1
    seen = []
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY,
        lambda t: seen.append([group["lr"] for group in t.optimizer.param_groups]),
    )
    trainer.attach(LRSchedule("cosine", min_lr=0.001))
    trainer.fit(loader, 4)
    one, two = zip(*seen, strict=True)
    assert two[0] == pytest.approx(10 * one[0])
    assert all((a - 0.001) * 11 == pytest.approx(b - 0.001) for a, b in seen)
    assert min(two) > 0.001


@pytest.mark.parametrize("name", ["step", "one_cycle"])
def test_no_rate_falls_below_min_lr(make_trainer, loader, name):
    used = fit(make_trainer(), loader, LRSchedule(name, step_size=2, min_lr=0.002))
    assert min(used) == pytest.approx(0.002)
    assert max(used) == pytest.approx(FULL)


def test_a_warm_up_longer_than_the_run_is_said_before_training(make_trainer, loader):
    trainer, seen = make_trainer(), []
    trainer.add_event_handler(
        TrainEvents.LOG_EVENT, lambda t: seen.append((t.state.iteration, t.state.notice))
    )
    used = fit(trainer, loader, LRSchedule(warmup_steps=1000))
    message = (
        "warm-up of 1000 steps is longer than the run of 20: the full learning rate is never "
        "reached"
    )
    assert seen == [(0, {"event": "notice", "message": message})]
    assert used == pytest.approx([FULL * (s + 1) / 1001 for s in range(STEPS)])


def test_the_rate_stands_among_the_metrics(make_trainer, loader):
    trainer, seen = make_trainer(), []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda t: seen.append(t.state.metrics["lr"]), phase=Phase.RECORD
    )
    used = fit(trainer, loader, LRSchedule("cosine"))
    assert seen == pytest.approx([used[5], used[10], used[15], 0.0])
    trainer.monitor_metric("lr", "someone")
    trainer.check_monitors()


# -- plateau --------------------------------------------------------------------------------

FLAT = [1.0] * 12


def plateau(**settings):
    return LRSchedule("plateau", **{"factor": 0.5, "patience": 1, **settings})


def per_epoch(used):
    return used[::5]


@pytest.mark.parametrize("cooldown", [0, 3])
@pytest.mark.parametrize("scores", [FLAT, [5.0, 4.0, 4.5, 4.6, 3.0, 3.1, 3.2, 3.3, math.nan, 9.0]])
def test_plateau_is_torchs(make_trainer, loader, cooldown, scores):
    schedule = plateau(cooldown=cooldown, min_lr=0.001)
    used = fit(make_trainer(), loader, schedule, len(scores), scores)
    optimizer = SGD([torch.zeros(1)], lr=FULL)
    theirs = ReduceLROnPlateau(
        optimizer, factor=0.5, patience=1, cooldown=cooldown, min_lr=0.001, eps=0
    )
    expected = []
    for score in scores:
        expected.append(optimizer.param_groups[0]["lr"])
        theirs.step(score)
    assert per_epoch(used) == pytest.approx(expected)
    assert min(expected) < FULL


@pytest.mark.parametrize(("monitor", "mode"), [("val/auroc", "max"), ("val/brier", "min")])
def test_plateau_follows_its_monitor_in_the_right_direction(monitor, mode):
    schedule = plateau(monitor=monitor)
    assert schedule.monitor.mode == mode
    assert schedule._plateau.mode == mode


def test_an_epoch_without_the_metric_does_not_count(make_trainer, loader):
    scores = [1.0, None, 1.0, None, None, 1.0, None, None]
    used = per_epoch(fit(make_trainer(), loader, plateau(), len(scores), scores))
    assert used == [FULL] * 6 + [FULL / 2] * 2


def test_a_reduction_during_the_warm_up_stays(make_trainer, loader):
    used = fit(make_trainer(), loader, plateau(warmup_steps=18), 5, FLAT)
    # Epoch 3 is the second without improvement: from step 15 on the line rises to the half.
    assert used[14] == pytest.approx(FULL * 15 / 19)
    assert used[15] == pytest.approx(FULL / 2 * 16 / 19)
    assert used[18] == pytest.approx(FULL / 2)


def test_a_reduction_is_announced_and_logged_with_its_epoch(make_trainer, loader):
    trainer, seen, logged = make_trainer(), [], []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: seen.append(t.state.notice))
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda t: logged.append(t.state.metrics["lr"]), phase=Phase.RECORD
    )
    fit(trainer, loader, plateau(), 4, FLAT)
    assert seen == [{"event": "lr_reduced", "epoch": 3, "lr": FULL / 2}]
    assert logged == [FULL, FULL, FULL, FULL / 2]


# -- resuming -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["cosine", "step", "plateau", "one_cycle", "constant"])
def test_a_resumed_run_has_the_same_rates(make_trainer, loader, name):
    scores = [1.0, 1.1, 1.2, 0.9, 1.3, 1.4, 1.5, 1.6]

    def make():
        trainer = make_trainer()
        trainer.optimizer.param_groups[1]["lr"] = 0.1
        schedule = LRSchedule(
            name, warmup_steps=7, step_epochs=3, factor=0.5, patience=0, cooldown=1
        )
        return trainer, schedule

    straight = fit(make()[0], loader, make()[1], 8, scores)
    first, schedule = make()
    states = {}

    def leave(trainer):
        states.update(trainer.capture())
        trainer.terminate()

    first.add_event_handler(Events.EPOCH_COMPLETED(once=5), leave, phase=Phase.SAVE)
    before = fit(first, loader, schedule, 8, scores)
    second, schedule = make()
    second.attach(schedule)
    second.restore(states)
    assert before + fit(second, loader, None, 8, scores) == straight


def test_a_raised_budget_stretches_the_rest_of_the_curve(make_trainer, loader):
    first, second = make_trainer(), make_trainer()
    fit(first, loader, LRSchedule("cosine"), 2)
    assert first.optimizer.param_groups[0]["lr"] == pytest.approx(0.0)
    second.attach(LRSchedule("cosine"))
    second.restore(first.capture())
    used = fit(second, loader, None, 4)
    assert used == pytest.approx(by_torch(lambda o: CosineAnnealingLR(o, T_max=STEPS))[10:])


def test_another_schedule_is_refused_on_resume(make_trainer, loader):
    first, second = make_trainer(), make_trainer()
    fit(first, loader, LRSchedule("cosine"), 1)
    second.attach(LRSchedule("step"))
    with pytest.raises(UsageError, match="lr_schedule does not fit: the run had 'cosine'"):
        second.restore(first.capture())


# -- settings and cost ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"name": "cosin"}, "there is no 'cosin'; did you mean 'cosine'"),
        ({"warmup_steps": -1}, "lr_schedule.warmup_steps: a whole number at least 0"),
        ({"warmup_steps": None}, "lr_schedule.warmup_steps"),
        ({"total_steps": 0}, "lr_schedule.total_steps"),
        ({"step_epochs": 0}, "lr_schedule.step_epochs"),
        (
            {"warmup_start": 2.0},
            "lr_schedule.warmup_start: a number between 0 and 1 was expected, not 2.0",
        ),
        ({"min_lr": "1e-5"}, "lr_schedule.min_lr"),
        ({"factor": 1.0}, "lr_schedule.factor: a number above 0 and below 1"),
        ({"pct_start": 0.0}, "lr_schedule.pct_start"),
        ({"mode": "least"}, "lr_schedule.mode"),
        (
            {"threshold_mode": "relative"},
            r"threshold_mode: there is no 'relative' \(choices: rel, abs\)",
        ),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        LRSchedule(**settings)


def test_a_lowest_rate_above_the_rate_is_refused(make_trainer):
    with pytest.raises(UsageError, match=r"lr_schedule\.min_lr 100 is above the learning rate"):
        make_trainer().attach(LRSchedule("cosine", min_lr=100.0))


def test_only_the_plateau_needs_its_monitor(make_trainer, loader):
    fit(make_trainer(), loader, LRSchedule("cosine", monitor="val/nothing"), 1)
    with pytest.raises(UsageError, match=r"lr_schedule\.monitor: no metric is called"):
        fit(make_trainer(), loader, LRSchedule("plateau", monitor="val/nothing", mode="max"), 1)


def test_a_rate_held_in_a_tensor_is_changed_in_place(make_trainer, loader):
    trainer = make_trainer(lr=torch.tensor(FULL))
    rate = trainer.optimizer.param_groups[0]["lr"]
    fit(trainer, loader, LRSchedule("cosine"), 2)
    assert trainer.optimizer.param_groups[0]["lr"] is rate
    assert float(rate) == pytest.approx(0.0)


def test_a_step_costs_microseconds(make_trainer, loader):
    trainer, schedule = make_trainer(), LRSchedule("cosine", warmup_steps=3)
    fit(trainer, loader, schedule, 2)
    rounds = 1000
    best = math.inf
    for _ in range(5):
        began = time.perf_counter()
        for _ in range(rounds):
            schedule(trainer)
        best = min(best, (time.perf_counter() - began) / rounds)
    assert best < 20e-6


@pytest.mark.parametrize("name", ["cosine", "plateau"])
def test_a_group_added_after_attaching_follows_the_schedule(make_trainer, loader, name):
    def build():
        trainer = make_trainer()
        LRSchedule(name, monitor="train/loss", patience=0, threshold=10.0).attach(trainer)
        added = torch.nn.Parameter(torch.zeros(1))
        trainer.optimizer.add_param_group({"params": [added], "lr": 0.004})
        return trainer

    straight, cut, resumed = build(), build(), build()
    straight.fit(loader, 4)
    cut.fit(loader, 2)
    resumed.restore(cut.capture())
    resumed.fit(loader, 4)
    rates = [group["lr"] for group in straight.optimizer.param_groups]
    assert rates[-1] == pytest.approx(0.4 * rates[0])
    assert rates[0] < 0.01
    assert [group["lr"] for group in resumed.optimizer.param_groups] == rates


def test_groups_with_different_rates_are_logged_by_name(make_trainer, loader):
    trainer = make_trainer(name="sgd", lr=0.4, groups=[GroupSettings("*.bias", 0.5)])
    trainer.attach(LRSchedule("cosine"))
    half = "lr/no_decay_x0.5"
    trainer.monitor_metric(half, "test")
    trainer.check_monitors()
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: seen.append(dict(trainer.state.metrics)), phase=Phase.REPORT
    )
    trainer.fit(loader, 2)
    for metrics in seen:
        assert metrics["lr"] == metrics["lr/decay"]
        assert metrics[half] == pytest.approx(metrics["lr"] / 2)
    assert seen[0]["lr"] > seen[1]["lr"]


def test_groups_with_the_same_rate_are_not_logged_apart(make_trainer):
    trainer = make_trainer()
    trainer.attach(LRSchedule("cosine"))
    trainer.fit(TinyLoader(), 1)
    assert "lr" in trainer.state.metrics
    assert not [name for name in trainer.state.metrics if name.startswith("lr/")]
