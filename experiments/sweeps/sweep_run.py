"""A search from its space to the best configuration.

The trials of ``<exp_name>-sweep`` are runs of their own, ``trial-<number>``. The same call
continues: it begins the trials that are missing, and those that were cut off.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.errors import UsageError, file_errors
from datasets.files import write_whole
from datasets.splits import k_folds, write_splits
from engine.metrics import LAST_EPOCH, better_when
from engine.reporting import figure_text
from experiments.baselines import comparison_metric
from experiments.builders import digest_memory, read_cohort, split_cohort
from experiments.command_line import as_typed
from experiments.config import load_config, write_yaml
from experiments.run_files import data_version, require_place, run_names, without_places
from experiments.runs import states_of
from experiments.sweeps.search_space import Overrides, as_overrides, read_space
from experiments.sweeps.study import (
    account,
    best_trial,
    check_search,
    open_study,
    shown_settings,
)
from experiments.sweeps.sweep_page import write_sweep_page
from experiments.sweeps.trials import Sweep, run_workers
from handlers.pruning import import_optuna

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from experiments.config import Config

BEST_NAME, STUDY_NAME = "best.yaml", "study.db"
# Of settings that differ between the machines of one search, or say nothing of a trial.
APART = ("exp_name", "runs_dir", "report", "baselines")


def run_sweep(
    source: str,
    overrides: Overrides,
    space: Path,
    count: int,
    *,
    jobs: int = 1,
    folds: int | None = None,
    storage: str | None = None,
    accept: Sequence[str] = (),
) -> int:
    """Search until ``count`` trials are finished, then write and print the best; the exit code.

    ``space`` is a file for :func:`read_space`. The figure is the monitor of the validation set, by
    the selected weights; with ``folds`` the mean over so many folds of the training and validation
    sets together. ``storage`` is an address of a database for several machines.
    """
    import_optuna()
    base = load_config(source, overrides).accepting(accept)
    found = read_space(space, source, overrides)
    require_place(base.runs_dir)
    folder = (base.runs_dir / f"{base.exp_name}-sweep").absolute()
    cohort = read_cohort(base.data)
    monitor, mode = _monitor(base, cohort.task)
    print(cohort.describe(), flush=True)
    split = split_cohort(cohort, base.data, base.data.split.file)
    sweep = Sweep(
        source,
        overrides,
        accept,
        found,
        count,
        jobs,
        storage or f"sqlite:///{folder / STUDY_NAME}",
        folder,
        f"{base.exp_name}-sweep",
        monitor,
        mode,
    )
    first = load_config(source, [*overrides, *as_overrides(found.first())]).accepting(accept)
    states_of([first.model_copy(update={"exp_name": f"{base.exp_name}-sweep-first"})])
    with file_errors(f"cannot write to {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
    try:
        study = open_study(sweep.storage, sweep.name, mode, bool(folds))
    except UsageError:
        if not any(folder.iterdir()):
            folder.rmdir()
        raise
    if not study.get_trials(deepcopy=False) and run_names(folder):
        raise UsageError(
            f"{folder} holds trials of a study that is not in {STUDY_NAME} any more; move it away"
            if storage is None
            else f"{folder} holds trials of another study; move it away"
        )
    version = data_version(base.data, cohort, cohort.fingerprint(digest_memory(base.data)))
    plain = {key: value for key, value in base.plain().items() if key not in APART}
    search = {
        "space": found.plain(),
        "configuration": without_places(plain),
        "figure": [monitor, mode],
        "folds": folds,
        "data": version.with_split(cohort.sample_ids, split).fingerprint,
    }
    check_search(study, search)
    if folds is not None:
        sweep = _with_folds(sweep, cohort, split, folds)
    before = account(study)
    if before.finished or before.running or before.cut:
        print(f"continued: {before.told()}", flush=True)
    try:
        code = run_workers(sweep)
    finally:
        lines = _write(sweep, study, folds)
    print("\n".join(lines))
    if code:
        print("to continue: the same command line")
    return code


def _monitor(base: Config, task: str) -> tuple[str, str]:
    """The metric that is searched by, and its mode."""
    monitor = str(base.checkpoint.monitor)
    if monitor == LAST_EPOCH:
        monitor = f"val/{comparison_metric(base, task)}"
        return monitor, better_when(monitor) or "max"
    if not monitor.startswith("val/"):
        raise UsageError(
            "checkpoint.monitor: a search needs a figure of the validation set, such as "
            f"val/auroc, not '{monitor}'"
        )
    return monitor, base.checkpoint.mode or "max"


def _with_folds(sweep: Sweep, cohort: Cohort, split: np.ndarray, count: int) -> Sweep:
    """Write a split for each inner fold: it is validated on; the test set stays what it is."""
    inner = split != "test"
    targets, groups = np.asarray(cohort.targets)[inner], cohort.groups[inner]
    drawn = k_folds(targets, groups, count, sweep.base.seed, cohort.class_names)
    files = []
    for number in range(count):
        of_fold = split.copy()
        of_fold[inner] = np.where(drawn.number_of == number, "val", "train")
        path = sweep.folder / f"fold{number}.csv"
        write_splits(path, cohort.sample_ids, cohort.groups, of_fold)
        files.append(path)
    return replace(sweep, splits=tuple(files))


def _write(sweep: Sweep, study: Any, folds: int | None) -> list[str]:
    """Write the best configuration and the page; returns lines on them."""
    lines = ["", account(study).told()]
    best = best_trial(study)
    if best is None:
        return [*lines, "no trial has a figure yet"]
    chosen = load_config(
        sweep.source,
        [
            *sweep.overrides,
            *as_overrides(best.params),
            ("exp_name", f"{sweep.base.exp_name}-best"),
        ],
    ).accepting(sweep.accept)
    path = sweep.folder / BEST_NAME
    figure = f"{sweep.monitor} {figure_text(best.value)}"
    of = f"the mean of {folds} inner folds" if folds else "the validation set"
    head = (
        f"# The best of {account(study).finished} trials, number {best.number}: {figure}, {of}.\n"
    )
    with file_errors(f"cannot write to {sweep.folder}"):
        write_whole((head + write_yaml(chosen.plain())).encode(), sweep.folder, BEST_NAME)
    page = write_sweep_page(sweep, study, of)
    return [
        *lines,
        f"best  {figure}, trial {best.number}: {shown_settings(best.params)}",
        f"of {of}, by which it was chosen: too good by the choice among trials; no trial has seen "
        "the test set",
        f"next  {as_typed('run.py')} {shlex.quote(str(path))}   trains it and tests it once",
        f"open  {page}",
    ]
