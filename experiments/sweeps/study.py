"""The study of a search: its database, and the account of its trials."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.errors import UsageError, one_line
from handlers.pruning import import_optuna

if TYPE_CHECKING:
    from collections.abc import Iterator

    from optuna import Study
    from optuna.trial import FrozenTrial

# In seconds: how often a worker shows that it lives, and when it counts as dead.
HEARTBEAT_S, GRACE_S = 5, 30
# In seconds: how long a worker waits for another one that writes into a SQLite file.
LOCKED_S = 100
# How often the tables of a new database are looked for, and the seconds between.
OPENINGS, OPENING_S = 20, 0.5
# A trial whose workers died so often is not begun again: its settings may be what kills them.
MOST_RETRIES = 3
# Nothing is pruned before so many trials are completed, nor before this epoch.
STARTUP_TRIALS, START_EPOCH = 5, 6
# Attributes of a trial and of a study.
WORKER, REFUSED, SECONDS, IDENTITY = "worker", "refused", "seconds", "search"


@dataclass(frozen=True)
class Account:
    """What became of all trials; ``cut`` are those whose worker died or was stopped."""

    completed: int = 0
    pruned: int = 0
    refused: int = 0
    running: int = 0
    waiting: int = 0
    cut: int = 0

    @property
    def finished(self) -> int:
        """Trials that count."""
        return self.completed + self.pruned + self.refused

    def told(self) -> str:
        """In one line.

        Example:
            >>> Account(completed=3, pruned=2, cut=1).told()
            '5 trials finished: 3 completed, 2 pruned; 1 was cut off and begun again'
            >>> Account(completed=3, cut=1, waiting=1).told()
            '3 trials finished: 3 completed, 0 pruned; 1 was cut off; 1 to be begun again'
        """
        parts = [f"{self.completed} completed", f"{self.pruned} pruned"]
        parts += [f"{self.refused} refused"] if self.refused else []
        line = f"{self.finished} trials finished: {', '.join(parts)}"
        if self.cut:
            line += f"; {self.cut} {'was' if self.cut == 1 else 'were'} cut off"
            line += "" if self.waiting else " and begun again"
        line += f"; {self.waiting} to be begun again" if self.waiting else ""
        return line + (f"; {self.running} not finished" if self.running else "")


def open_study(storage: str, name: str, mode: str, of_folds: bool) -> Study:
    """Open the study, or make it; ``storage`` is an address of a database as SQLAlchemy has it.

    A trial reports its epochs, or ``of_folds`` the mean over its first folds; see
    :class:`handlers.pruning.Pruning`.
    """
    optuna = import_optuna()
    retry = optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES)
    waits = {"connect_args": {"timeout": LOCKED_S}} if storage.startswith("sqlite") else {}
    with storage_errors(storage):
        return optuna.create_study(
            storage=_made_by_one(
                lambda: optuna.storages.RDBStorage(
                    storage,
                    engine_kwargs=waits,
                    heartbeat_interval=HEARTBEAT_S,
                    grace_period=GRACE_S,
                    heartbeat_stale_trial_callback=retry,
                )
            ),
            study_name=name,
            direction="maximize" if mode == "max" else "minimize",
            load_if_exists=True,
            pruner=optuna.pruners.MedianPruner(STARTUP_TRIALS, 0 if of_folds else START_EPOCH),
        )


def _made_by_one(open_storage: Callable[[], Any]) -> Any:
    """Open a database, of which another process may be making the tables just now."""
    from sqlalchemy.exc import IntegrityError, SQLAlchemyError  # comes with Optuna

    for attempt in range(OPENINGS):
        try:
            return open_storage()
        except SQLAlchemyError as error:
            # Two made a table, or its first row.
            both = isinstance(error, IntegrityError) or "already exists" in str(error)
            if attempt + 1 == OPENINGS or not both:
                raise
            time.sleep(OPENING_S)
    raise AssertionError("unreachable")


@contextmanager
def storage_errors(storage: str) -> Iterator[None]:
    """Tell in one line, without a password, why a database cannot be used."""
    from sqlalchemy.exc import SQLAlchemyError  # comes with Optuna

    optuna = import_optuna()
    try:
        yield
    except (SQLAlchemyError, optuna.exceptions.OptunaError, ImportError, ValueError) as error:
        if isinstance(error, UsageError | optuna.exceptions.TrialPruned):
            raise
        reason = getattr(error, "orig", None) or error
        told = one_line(reason).replace(storage, _shown(storage))
        raise UsageError(f"--storage: {_shown(storage)} cannot be used: {told}") from error


def _shown(storage: str) -> str:
    """An address without its password."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    try:
        return make_url(storage).render_as_string(hide_password=True)
    except ArgumentError:
        return "it"


def check_search(study: Study, search: Mapping[str, Any]) -> None:
    """Note what a new study searches, in plain types; refuse to mix two searches in one study."""
    wanted = json.loads(json.dumps(search))
    before = study.user_attrs.get(IDENTITY)
    if before is None:
        study.set_user_attr(IDENTITY, wanted)
        return
    differing = list(_differences(before, wanted))
    if differing:
        raise UsageError(
            f"the study '{study.study_name}' is another search: {', '.join(differing[:5])} "
            "differs; give this one another --exp_name"
        )


def _differences(before: Any, wanted: Any, key: str = "") -> Iterator[str]:
    if isinstance(before, dict) and isinstance(wanted, dict):
        for name in dict.fromkeys([*before, *wanted]):
            inner = f"{key}.{name}" if key else name
            yield from _differences(before.get(name), wanted.get(name), inner)
    elif before != wanted:
        yield key


def sampler_of(seed: int, number: int) -> Any:
    """The sampler of one trial: one worker draws the same, whether it was stopped or not."""
    optuna = import_optuna()
    own = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
    return optuna.samplers.TPESampler(seed=own)


def account(study: Study) -> Account:
    """Count the trials."""
    counts: Counter[str] = Counter()
    for trial in study.get_trials(deepcopy=False):
        state = trial.state.name
        if state == "PRUNED" and REFUSED in trial.user_attrs:
            counts["refused"] += 1
        else:
            named = {"COMPLETE": "completed", "FAIL": "cut"}
            counts[named.get(state, state.lower())] += 1
    return Account(**counts)


def fail_dead(study: Study, dead: Collection[str] = ()) -> None:
    """Put the trials of workers that died back in the queue, with the settings that they had.

    ``dead`` are known to have ended; others are found by their heartbeat.
    """
    optuna = import_optuna()
    optuna.storages.fail_stale_trials(study)
    running = optuna.trial.TrialState.RUNNING
    for trial in study.get_trials(deepcopy=False, states=(running,)):
        worker = trial.user_attrs.get(WORKER)
        # One that died between being given a trial and its first heartbeat.
        never_began = worker is None and age_s(trial) > GRACE_S
        if worker in dead or never_began:
            put_back(study, trial.number)


def age_s(trial: FrozenTrial) -> float:
    """Seconds since a trial began."""
    assert trial.datetime_start is not None
    return (datetime.now(trial.datetime_start.tzinfo) - trial.datetime_start).total_seconds()


def put_back(study: Study, number: int) -> None:
    """Mark a trial as failed, if it is not yet, and queue it again."""
    optuna = import_optuna()
    state = optuna.trial.TrialState
    trial = study.get_trials(deepcopy=False)[number]
    if not trial.state.is_finished():
        study.tell(number, state=state.FAIL, skip_if_finished=True)
        trial = study.get_trials()[number]
    optuna.storages.RetryHeartbeatStaleTrialCallback(max_retry=MOST_RETRIES)(study, trial)


def first_number(trial: Any) -> int:
    """The number of the trial that this one repeats, else its own: it names the run's folder."""
    optuna = import_optuna()
    repeated = optuna.storages.RetryHeartbeatStaleTrialCallback.retried_trial_number(trial)
    return trial.number if repeated is None else repeated


def best_trial(study: Any) -> Any:
    """The completed trial of the best value, the earliest of equals; None where there is none."""
    optuna = import_optuna()
    completed = study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.COMPLETE,))
    if not completed:
        return None
    largest = study.direction.name == "MAXIMIZE"
    return (max if largest else min)(completed, key=lambda trial: trial.value)


def shown_settings(params: Mapping[str, Any]) -> str:
    """The settings of a trial in a line.

    Example:
        >>> shown_settings({"optimizer.lr": 0.00123456, "model.name": "tft"})
        'optimizer.lr 0.001235, model.name tft'
    """
    return ", ".join(f"{key} {shown_value(value)}" for key, value in params.items())


def shown_value(value: Any) -> str:
    """A setting's value, a number by four digits."""
    return f"{value:.4g}" if isinstance(value, float) else str(value)
