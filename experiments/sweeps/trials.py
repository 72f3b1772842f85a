"""The trials of a search: each is a run up to its validation, by one of several workers."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock
from joblib import cpu_count

from datasets.errors import UsageError
from engine.reporting import figure_text
from experiments.command_line import INTERRUPTED, USAGE_ERROR
from experiments.config import load_config
from experiments.folds import gpus, lean_settings, set_up_process
from experiments.run_files import is_run
from experiments.runs import Experiment, holds_a_beginning
from experiments.sweeps.search_space import SearchSpace, as_overrides
from experiments.sweeps.study import (
    REFUSED,
    SECONDS,
    WORKER,
    account,
    best_trial,
    fail_dead,
    first_number,
    open_study,
    put_back,
    sampler_of,
    shown_settings,
    storage_errors,
)
from handlers.pruning import Pruning, import_optuna

if TYPE_CHECKING:
    from experiments.config import Config

# In seconds, between two looks whether a trial is free again.
POLL_S = 1.0
# Where so many trials are refused and none has a figure, the space itself is wrong.
MOST_REFUSED = 3
# Workers that may die, for each that there is.
MOST_DEATHS = 3
# Exit status after a signal, plus its number.
EXIT_BASE = 128
# Of a mean over folds, which has no epochs.
NO_EPOCHS = "fold"


class StoppedError(Exception):
    """A signal stopped a trial's training; ``code`` is the exit code."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Sweep:
    """A search: a configuration, what is varied, and what is measured.

    ``count`` trials are to be finished by all workers; ``splits`` are files of inner folds, none
    for the configuration's own split. ``monitor`` is of the validation set (``val/auroc``).
    """

    source: str
    overrides: Sequence[tuple[str, str]]
    accept: Sequence[str]
    space: SearchSpace
    count: int
    jobs: int
    storage: str
    folder: Path
    name: str
    monitor: str
    mode: str
    splits: Sequence[Path] = ()

    @property
    def base(self) -> Config:
        """The configuration without what is varied."""
        return load_config(self.source, self.overrides).accepting(self.accept)

    def config(self, chosen: dict[str, Any], title: str, split: Path | None = None) -> Config:
        """The configuration of a trial's run; what all trials share is not done in each."""
        own = [("exp_name", title), ("runs_dir", str(self.folder)), ("audit.enabled", "false")]
        if split is not None:
            own.append(("data.split", json.dumps({"file": str(split)})))
        lines = [*self.overrides, *lean_settings(self.base), *as_overrides(chosen), *own]
        return load_config(self.source, lines)

    def study(self) -> Any:
        """The study, in this process."""
        return open_study(self.storage, self.name, self.mode, bool(self.splits))


def worker_name() -> str:
    """This process among all workers."""
    return f"{platform.node()}-{os.getpid()}"


def run_trial(sweep: Sweep, trial: Any) -> float:
    """Train and validate by the settings that the trial is given; returns the figure.

    What the run refuses, or diverges, or does not fit into the memory of the GPU, is a trial
    without a figure.
    """
    optuna = import_optuna()
    began = time.monotonic()
    chosen = sweep.space.suggest(trial)
    frozen = trial.study.get_trials(deepcopy=False)[trial.number]
    title = f"trial-{first_number(frozen)}"
    try:
        if sweep.splits:
            return _mean_of_folds(sweep, trial, chosen, title)
        pruning = Pruning(trial, monitor=sweep.monitor, mode=sweep.mode)
        return _validated(sweep.config(chosen, title), sweep.monitor, pruning)
    except UsageError as error:
        trial.set_user_attr(REFUSED, str(error))
        raise optuna.TrialPruned from error
    except torch.OutOfMemoryError as error:
        trial.set_user_attr(REFUSED, "the GPU has too little memory")
        raise optuna.TrialPruned from error
    finally:
        trial.set_user_attr(SECONDS, round(time.monotonic() - began, 1))


def _mean_of_folds(sweep: Sweep, trial: Any, chosen: dict[str, Any], title: str) -> float:
    optuna = import_optuna()
    figures: list[float] = []
    for number, split in enumerate(sweep.splits):
        config = sweep.config(chosen, f"{title}-fold{number}", split)
        figures.append(_validated(config, sweep.monitor))
        if number not in trial.study.get_trials(deepcopy=False)[trial.number].intermediate_values:
            trial.report(fmean(figures), number)
        if number + 1 < len(sweep.splits) and trial.should_prune():
            raise optuna.TrialPruned
    return fmean(figures)


def _validated(config: Config, monitor: str, pruning: Pruning | None = None) -> float:
    """Train, or continue a cut training, and measure the validation set; the test set is not."""
    handlers = [] if pruning is None else [pruning]
    with open(os.devnull, "w", encoding="utf-8") as nowhere, redirect_stdout(nowhere):
        experiment = Experiment(
            config, _begun(config.runs_dir / config.exp_name), handlers=handlers
        )
        with closing(experiment):
            experiment.setup()
            experiment.train()
            if experiment.exit_code is not None:
                raise StoppedError(experiment.exit_code)
            if pruning is not None and pruning.pruned:
                raise import_optuna().TrialPruned
            figure = experiment.validate()[monitor.removeprefix("val/")]
    if figure != figure:
        raise UsageError(f"{monitor} is not a number")
    return figure


def _begun(folder: Path) -> Path | None:
    """The folder of a run that was cut off, None where there is nothing to continue."""
    if is_run(folder):
        return folder
    if folder.exists() and holds_a_beginning(folder):
        shutil.rmtree(folder)
    return None


def work(sweep: Sweep) -> int:
    """Begin trials until enough are finished, by all workers; returns the exit code."""
    optuna = import_optuna()
    study = sweep.study()
    # What is counted must not change before the next trial is begun.
    lock = FileLock(sweep.folder / ".trials.lock")

    def begin(trial: Any) -> float:
        trial.study.sampler = sampler_of(sweep.base.seed, trial.number)
        trial.set_user_attr(WORKER, worker_name())
        lock.release()
        begun.append(trial.number)
        return run_trial(sweep, trial)

    while True:
        begun: list[int] = []
        lock.acquire()
        try:
            with storage_errors(sweep.storage):
                fail_dead(study)
                now = account(study)
            if not now.completed and now.refused >= MOST_REFUSED:
                reasons = [t.user_attrs[REFUSED] for t in study.trials if REFUSED in t.user_attrs]
                raise UsageError(f"every trial so far was refused, the last one: {reasons[-1]}")
            if now.finished >= sweep.count:
                return 0
            if now.finished + now.running < sweep.count:
                study.optimize(begin, n_trials=1)
        except StoppedError as stopped:
            put_back(study, begun[0])
            return stopped.code
        except optuna.exceptions.UpdateFinishedTrialError:
            # It was taken for dead (a computer that slept): another worker has its trial.
            continue
        except BaseException:
            if begun:
                put_back(study, begun[0])
            raise
        finally:
            if lock.is_locked:
                lock.release()
        if begun:
            print(trial_line(sweep, study, begun[0]), flush=True)
        else:
            time.sleep(POLL_S)


def trial_line(sweep: Sweep, study: Any, number: int) -> str:
    """What became of a finished trial."""
    trial, best = study.get_trials(deepcopy=False)[number], best_trial(study)
    if REFUSED in trial.user_attrs:
        outcome = f"refused: {trial.user_attrs[REFUSED]}"
    elif trial.state.name == "PRUNED":
        last, unit = trial.last_step, NO_EPOCHS if sweep.splits else "epoch"
        outcome = f"{sweep.monitor} {figure_text(trial.value)}, pruned after {unit} {last}"
    else:
        outcome = f"{sweep.monitor} {figure_text(trial.value)}"
    told = "" if best is None else f" (best {figure_text(best.value)}, trial {best.number})"
    seconds = trial.user_attrs[SECONDS]
    return f"trial {number:>3}  {outcome}{told}  {shown_settings(trial.params)}  {seconds:.0f} s"


def run_workers(sweep: Sweep) -> int:
    """Run the trials by ``jobs`` processes; returns the exit code.

    A process that is killed is replaced, and its trial is begun again.
    """
    if sweep.jobs == 1:
        return work(sweep)
    context = get_context("spawn")  # after a fork neither CUDA nor OpenMP can be used
    errors = context.SimpleQueue()
    share = max(1, cpu_count() // sweep.jobs), gpus(sweep.base.trainer.device)

    def start(number: int) -> Any:
        process = context.Process(target=_be_worker, args=(sweep, errors, number, *share))
        process.start()
        return process

    workers = {number: start(number) for number in range(sweep.jobs)}
    deaths, code, stopping = 0, 0, False

    def stop(*of_signal: Any) -> None:
        """Have all workers end after the step that they are in."""
        nonlocal stopping
        stopping = True
        for process in workers.values():
            process.terminate()

    try:
        with _on_sigterm(stop):
            while workers:
                wait([process.sentinel for process in workers.values()])
                for number, process in list(workers.items()):
                    if process.is_alive():
                        continue
                    process.join()
                    del workers[number]
                    ended = process.exitcode
                    if ended < 0:
                        fail_dead(sweep.study(), [f"{platform.node()}-{process.pid}"])
                    if ended >= 0 or stopping:
                        code = code or (ended if ended >= 0 else EXIT_BASE - ended)
                    elif (deaths := deaths + 1) <= MOST_DEATHS * sweep.jobs:
                        told = f"a worker was ended by signal {-ended}: its trial is begun again"
                        print(told, flush=True)
                        workers[number] = start(number)
                    if ended in (1, USAGE_ERROR) or deaths > MOST_DEATHS * sweep.jobs:
                        stop()
    except KeyboardInterrupt:
        for process in workers.values():  # which Ctrl-C has reached, too
            process.join()
        raise
    if code == USAGE_ERROR:
        raise UsageError(errors.get())
    if deaths > MOST_DEATHS * sweep.jobs:
        raise UsageError(
            f"{deaths} workers died, perhaps for want of memory; the same command line continues"
        )
    return code


@contextmanager
def _on_sigterm(stop: Callable[..., None]) -> Iterator[None]:
    """Pass SIGTERM on to the workers, where this is the thread that hears it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    former = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, former)


def _be_worker(sweep: Sweep, errors: Any, number: int, threads: int, names: Sequence[str]) -> None:
    set_up_process(number, threads, names)
    try:
        sys.exit(work(sweep))
    except UsageError as error:
        errors.put(str(error))
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
