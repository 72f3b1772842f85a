from __future__ import annotations

import math
import sys

import pytest
from ignite.engine import Events

from engine import Phase, TrainEvents, UsageError
from handlers.pruning import Pruning

optuna = pytest.importorskip("optuna", reason="Optuna is an extra: pip install 'scanfire[sweep]'")
STATE = optuna.trial.TrialState
# Of the trials that others are held against, by epoch.
GOOD = {1: 0.6, 2: 0.7, 3: 0.8, 4: 0.9}


def run(trainer, loader, values, pruning, epochs=None):
    """Train while each epoch measures the next value as val/auroc; the notices that came."""
    seen = []
    trainer.provide_metrics("val/auroc")

    def measure(trainer):
        trainer.state.metrics.pop("val/auroc", None)
        if values[trainer.state.epoch - 1] is not None:
            trainer.state.metrics["val/auroc"] = values[trainer.state.epoch - 1]

    trainer.add_event_handler(Events.EPOCH_COMPLETED, measure, phase=Phase.MEASURE)
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: seen.append(dict(t.state.notice)))
    trainer.attach(pruning)
    trainer.fit(loader, epochs or len(values))
    return seen


@pytest.fixture
def storage(tmp_path):
    return f"sqlite:///{tmp_path / 'study.db'}"


def study_of(storage, completed=0, study_name="scanfire"):
    study = optuna.create_study(
        storage=storage, study_name=study_name, direction="maximize", load_if_exists=True
    )
    for _ in range(completed):
        study.add_trial(optuna.create_trial(value=0.9, intermediate_values=GOOD))
    return study


def alone(storage, **settings):
    return Pruning(storage=storage, start_epoch=1, startup_trials=2, **settings)


def test_a_run_below_the_median_of_the_others_is_pruned(make_trainer, loader, storage):
    study, trainer = study_of(storage, 2), make_trainer()
    pruning = alone(storage)
    seen = run(trainer, loader, [0.5, 0.55, 0.9, 0.9], pruning)
    assert trainer.state.epoch == 2
    assert pruning.pruned
    (told,) = [notice for notice in seen if notice["event"] == "pruned"]
    assert (told["epoch"], told["monitor"], told["best"]) == (2, "val/auroc", 0.55)
    trial = study.trials[-1]
    assert trial.state == STATE.PRUNED
    assert trial.intermediate_values == {1: 0.5, 2: 0.55}


def test_a_run_above_the_median_completes_with_its_best_value(make_trainer, loader, storage):
    study, trainer = study_of(storage, 2), make_trainer()
    pruning = alone(storage)
    run(trainer, loader, [0.65, None, 0.95, 0.85], pruning)
    assert trainer.state.epoch == 4
    assert not pruning.pruned
    trial = study.trials[-1]
    assert (trial.state, trial.value) == (STATE.COMPLETE, 0.95)
    assert trial.intermediate_values == {1: 0.65, 3: 0.95, 4: 0.85}


def test_what_is_better_when_small_is_pruned_when_large(make_trainer, loader, storage):
    study = optuna.create_study(storage=storage, study_name="losses", direction="minimize")
    study.add_trial(optuna.create_trial(value=0.1, intermediate_values={1: 0.2, 2: 0.1}))
    trainer = make_trainer()
    pruning = Pruning(
        storage=storage, study="losses", monitor="train/loss", start_epoch=1, startup_trials=1
    )
    run(trainer, loader, [0.5] * 4, pruning)
    assert trainer.state.epoch == 2
    assert study.trials[-1].intermediate_values[2] > 0.1


def test_nothing_is_pruned_before_the_others_are_enough(make_trainer, loader, storage):
    study_of(storage, 1)
    trainer = make_trainer()
    run(trainer, loader, [0.1] * 4, alone(storage))
    assert trainer.state.epoch == 4


def test_nothing_is_pruned_up_to_the_first_epochs(make_trainer, loader, storage):
    study_of(storage, 2)
    trainer = make_trainer()
    run(trainer, loader, [0.1] * 4, Pruning(storage=storage, start_epoch=2, startup_trials=2))
    assert trainer.state.epoch == 3


def test_the_last_epoch_prunes_nothing_that_is_trained_anyway(make_trainer, loader, storage):
    study = study_of(storage, 2)
    pruning = Pruning(storage=storage, start_epoch=3, startup_trials=2)
    run(make_trainer(), loader, [0.1] * 4, pruning)
    assert not pruning.pruned
    assert study.trials[-1].state == STATE.COMPLETE


def test_a_run_without_a_number_is_no_completed_trial(make_trainer, loader, storage):
    study = study_of(storage)
    run(make_trainer(), loader, [math.nan] * 2, alone(storage))
    assert study.trials[-1].state == STATE.FAIL


def test_a_trial_of_the_caller_is_told_by_the_caller(make_trainer, loader):
    study = optuna.create_study(direction="maximize", pruner=optuna.pruners.ThresholdPruner(0.5))
    trial = study.ask()
    pruning = Pruning(trial)
    run(make_trainer(), loader, [0.6, 0.4, 0.6], pruning)
    assert pruning.pruned
    assert study.trials[0].state == STATE.RUNNING
    assert study.trials[0].intermediate_values == {1: 0.6, 2: 0.4}
    study.tell(trial, state=STATE.PRUNED)


def test_a_trial_is_found_by_its_number(make_trainer, loader, storage):
    study = study_of(storage)
    number = study.ask().number
    run(make_trainer(), loader, [0.6, 0.7], Pruning(number, storage=storage))
    assert study.trials[number].intermediate_values == {1: 0.6, 2: 0.7}
    assert study.trials[number].state == STATE.RUNNING
    with pytest.raises(UsageError, match=r"pruning\.trial: .* has no trial 7"):
        run(make_trainer(), loader, [0.6], Pruning(7, storage=storage))


def resumed(make_trainer, loader, pair, values, epochs):
    """Train some epochs with one handler, then the rest in a new trainer with another."""
    first, second = pair
    before, after = make_trainer(), make_trainer()
    run(before, loader, values, first, epochs)
    after.register_state("pruning", second)
    after.restore(before.capture())
    del after.stateful["pruning"]
    return after, run(after, loader, values, second)


def test_a_resumed_run_continues_its_trial(make_trainer, loader, storage):
    study = study_of(storage)
    trial = study.ask()
    values = [0.6, 0.5, 0.7]
    numbered = [Pruning(trial.number, storage=storage) for _ in range(2)]
    resumed(make_trainer, loader, numbered, values, epochs=2)
    assert study.trials[0].intermediate_values == {1: 0.6, 2: 0.5, 3: 0.7}
    assert numbered[1].best == 0.7


def test_a_new_trial_is_told_the_epochs_of_the_one_that_it_repeats(make_trainer, loader, storage):
    study = study_of(storage)
    study.ask()
    study.ask()
    handlers = [Pruning(number, storage=storage) for number in (0, 1)]
    resumed(make_trainer, loader, handlers, [0.6, 0.5, 0.7], epochs=2)
    assert study.trials[0].intermediate_values == {1: 0.6, 2: 0.5}
    assert study.trials[1].intermediate_values == {1: 0.6, 2: 0.5, 3: 0.7}


def test_a_pruned_run_trains_no_further_when_resumed(make_trainer, loader, storage):
    study_of(storage, 2)
    handlers = [alone(storage) for _ in range(2)]
    trainer, seen = resumed(make_trainer, loader, handlers, [0.1] * 4, epochs=4)
    assert trainer.state.epoch == 2
    assert [notice["event"] for notice in seen] == ["nothing_to_train"]
    assert seen[0]["message"] == "the run was pruned after epoch 2"


def test_an_interrupted_run_keeps_its_trial_running(make_trainer, loader, storage):
    study, trainer = study_of(storage), make_trainer()

    @trainer.on(Events.EPOCH_COMPLETED(once=2), phase=Phase.REPORT)
    def stop(trainer):
        trainer.log_event("interrupted", signal="SIGTERM")
        trainer.terminate()

    run(trainer, loader, [0.6] * 4, alone(storage))
    assert study.trials[0].state == STATE.RUNNING


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, r"pruning\.storage: name the study's database"),
        ({"storage": "sqlite://", "start_epoch": -1}, r"pruning\.start_epoch"),
        ({"storage": "sqlite://", "startup_trials": 0}, r"pruning\.startup_trials"),
        ({"storage": "sqlite://", "mode": "best"}, r"pruning\.mode: 'best' is neither"),
    ],
)
def test_wrong_settings_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        Pruning(**settings)


def test_a_storage_beside_a_trial_is_refused(storage):
    with pytest.raises(UsageError, match="no effect beside a trial"):
        Pruning(optuna.create_study().ask(), storage=storage)


def test_a_database_that_cannot_be_opened_is_told_in_one_line(make_trainer, loader, tmp_path):
    with pytest.raises(UsageError, match=r"^pruning\.storage: no study can be opened") as told:
        run(make_trainer(), loader, [0.1], alone(f"sqlite:///{tmp_path}/absent/study.db"))
    assert "\n" not in str(told.value)


def test_without_the_package_its_install_command_is_named(make_trainer, storage, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'scanfire\[sweep\]'$"):
        make_trainer().attach(alone(storage))
