from __future__ import annotations

import math

import pytest
from ignite.engine import Events

from engine import Phase, TrainEvents, UsageError
from handlers.early_stopping import EarlyStopping

NAN, INF = math.nan, math.inf


def run(trainer, loader, values, stopping, epochs=None):
    """Train while each epoch measures the next value as val/loss; the notices that came."""
    seen = []
    trainer.provide_metrics("val/loss")

    def measure(trainer):
        value = values[trainer.state.epoch - 1]
        trainer.state.metrics.pop("val/loss", None)
        if value is not None:
            trainer.state.metrics["val/loss"] = value

    trainer.add_event_handler(Events.EPOCH_COMPLETED, measure, phase=Phase.MEASURE)
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: seen.append(dict(t.state.notice)))
    trainer.attach(stopping)
    trainer.fit(loader, epochs or len(values))
    return seen


def epochs_until_stopped(make_trainer, loader, values, **settings):
    trainer = make_trainer()
    run(trainer, loader, values, EarlyStopping("val/loss", "min", **settings))
    return trainer.state.epoch


def test_training_ends_when_patience_runs_out_and_says_so(make_trainer, loader):
    trainer = make_trainer()
    values = [0.9, 0.5, 0.6, 0.5, 0.7, 0.1]
    seen = run(trainer, loader, values, EarlyStopping("val/loss", "min", patience=3))
    assert trainer.state.epoch == 5
    assert seen == [
        {
            "event": "early_stopped",
            "epoch": 5,
            "monitor": "val/loss",
            "best": 0.5,
            "best_epoch": 2,
            "bad_epochs": 3,
        }
    ]


def test_a_rising_score_is_an_improvement_without_a_mode(make_trainer, loader):
    stopping = EarlyStopping("val/auroc", patience=2)
    rising = [0.5, 0.6, 0.7, 0.8]
    assert not any(stopping.observe(value, epoch) for epoch, value in enumerate(rising, 1))
    assert [EarlyStopping("val/loss").monitor.mode, EarlyStopping("val/mae").monitor.mode] == [
        "min",
        "min",
    ]


def test_an_improvement_starts_the_count_afresh(make_trainer, loader):
    values = [0.9, 1.0, 0.8, 1.0, 0.7, 1.0, 1.0, 1.0]
    assert epochs_until_stopped(make_trainer, loader, values, patience=2) == 7


def test_the_mode_says_what_better_is(make_trainer, loader):
    trainer = make_trainer()
    run(trainer, loader, [0.1, 0.2, 0.3, 0.2, 0.1, 0.4], EarlyStopping("val/loss", "max", 2))
    assert trainer.state.epoch == 5


def test_nan_is_no_improvement_and_leaves_the_best(make_trainer, loader):
    trainer, stopping = make_trainer(), EarlyStopping("val/loss", "min", patience=2)
    run(trainer, loader, [0.5, NAN, NAN, 0.1], stopping)
    assert (trainer.state.epoch, stopping.best) == (3, 0.5)


def test_a_first_nan_blocks_nothing(make_trainer, loader):
    trainer, stopping = make_trainer(), EarlyStopping("val/loss", "min", patience=2)
    run(trainer, loader, [NAN, 0.5, 0.6, 0.4], stopping)
    assert (trainer.state.epoch, stopping.best) == (4, 0.4)


def test_an_epoch_without_the_metric_does_not_count(make_trainer, loader):
    values = [0.5, None, 0.6, None, 0.7, None]
    assert epochs_until_stopped(make_trainer, loader, values, patience=2) == 5


def test_cooldown_lets_epochs_after_an_improvement_pass(make_trainer, loader):
    values = [0.5, *[0.6] * 9]
    assert epochs_until_stopped(make_trainer, loader, values, patience=2) == 3
    assert epochs_until_stopped(make_trainer, loader, values, patience=2, cooldown=3) == 6
    values = [0.5, 0.6, 0.4, *[0.6] * 9]
    assert epochs_until_stopped(make_trainer, loader, values, patience=2, cooldown=3) == 8


def test_the_first_epochs_may_be_left_uncounted(make_trainer, loader):
    values = [0.5, *[0.6] * 9]
    assert epochs_until_stopped(make_trainer, loader, values, patience=2, start_epoch=4) == 6


def test_a_gain_has_to_exceed_min_delta_and_small_gains_add_up(make_trainer, loader):
    creeping = [1.0, 0.95, 0.9, 0.85, 0.84, 0.83, 0.82]
    assert epochs_until_stopped(make_trainer, loader, creeping, patience=2) == 7
    assert epochs_until_stopped(make_trainer, loader, creeping, patience=2, min_delta=0.1) == 3
    assert epochs_until_stopped(make_trainer, loader, creeping, patience=3, min_delta=0.1) == 7


def test_min_delta_may_be_a_share_of_the_best(make_trainer, loader):
    values = [100.0, 95.0, 94.0, 89.0]
    relative = {"patience": 2, "min_delta": 0.1, "relative": True}
    assert epochs_until_stopped(make_trainer, loader, values, **relative) == 3
    assert epochs_until_stopped(make_trainer, loader, values, patience=2, min_delta=0.1) == 4


def test_infinite_values_compare_as_numbers():
    stopping = EarlyStopping("val/loss", "min", patience=1, min_delta=0.1, relative=True)
    assert not stopping.observe(INF, 1)
    assert not stopping.observe(5.0, 2)
    assert stopping.observe(INF, 3)
    assert stopping.best == 5.0
    stopping = EarlyStopping("val/loss", "min", patience=1)
    assert not stopping.observe(-INF, 1)
    assert stopping.observe(-INF, 2)


def test_the_count_continues_after_a_resume(make_trainer, loader):
    first, second = make_trainer(), make_trainer()
    values = [0.5, 0.6, 0.6, 0.6, 0.6, 0.6]
    run(first, loader, values, EarlyStopping("val/loss", "min", patience=4, cooldown=1), epochs=3)
    stopping = EarlyStopping("val/loss", "min", patience=4, cooldown=1)
    second.register_state("early_stopping", stopping)
    second.restore(first.capture())
    del second.stateful["early_stopping"]
    run(second, loader, values, stopping)
    assert second.state.epoch == 6
    assert (stopping.best, stopping.best_epoch, stopping.bad_epochs) == (0.5, 1, 4)


def stopped_and_restored(make_trainer, loader, patience):
    first, second = make_trainer(), make_trainer()
    values = [0.5, 0.6, 0.7, 0.8, 0.9, 1.0]
    run(first, loader, values, EarlyStopping("val/loss", "min", patience=2))
    stopping = EarlyStopping("val/loss", "min", patience=patience)
    second.register_state("early_stopping", stopping)
    second.restore(first.capture())
    del second.stateful["early_stopping"]
    return second, run(second, loader, values, stopping)


def test_a_run_that_stopped_early_trains_no_further_when_resumed(make_trainer, loader):
    trainer, seen = stopped_and_restored(make_trainer, loader, patience=2)
    assert (trainer.state.epoch, trainer.state.iteration) == (3, 15)
    assert [n["event"] for n in seen] == ["nothing_to_train"]
    assert "val/loss did not improve for 2 epochs" in seen[0]["message"]


def test_with_more_patience_it_trains_on(make_trainer, loader):
    trainer, seen = stopped_and_restored(make_trainer, loader, patience=4)
    assert trainer.state.epoch == 5
    assert [n["event"] for n in seen] == ["early_stopped"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"patience": 0}, "early_stopping.patience: a whole number at least 1"),
        ({"patience": 2.5}, "early_stopping.patience"),
        ({"cooldown": -1}, "early_stopping.cooldown"),
        ({"start_epoch": -1}, "early_stopping.start_epoch"),
        ({"min_delta": -0.1}, "early_stopping.min_delta: a number at least 0 was expected"),
        ({"min_delta": NAN}, "early_stopping.min_delta"),
        ({"mode": "lowest"}, "early_stopping.mode: 'lowest' is neither max nor min"),
    ],
)
def test_a_wrong_setting_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        EarlyStopping(**settings)


def test_a_monitor_that_nothing_produces_is_refused(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(EarlyStopping("train/los", "min"))
    with pytest.raises(UsageError, match=r"early_stopping\.monitor.*did you mean 'train/loss'"):
        trainer.fit(loader, 1)


def test_patience_runs_out_with_the_second_epoch_without_a_gain():
    stopping = EarlyStopping("val/loss", "min", patience=2)
    seen = [stopping.observe(loss, epoch) for epoch, loss in enumerate([0.9, 0.8, 0.8, 0.9], 1)]
    assert seen == [False, False, False, True]
