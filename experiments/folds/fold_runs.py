"""A cross-validation from its plan to its page.

Each run of a network is an experiment of its own: ``<exp_name>-fold<number>`` (and, where folds are
groups or batches, their name), with the name of the model and the seed for others than the
configuration's own. What is finished is not run again, and what was cut off is continued: the same
call goes on where it was stopped. ``<exp_name>-folds`` is made anew from the runs each time.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pandas as pd

from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.messages import Message
from experiments.analysis import AUTOMATIC_SCANS, audit_cohort, check_audit
from experiments.baselines import comparison_metric
from experiments.folds.fold_baselines import (
    baseline_tasks,
    fit_fold,
    read_fold,
)
from experiments.folds.fold_checks import (
    BASELINES,
    Checks,
    StoppedError,
    check_checks,
    do_missing,
    run_checks,
)
from experiments.folds.fold_leaderboard import FoldLeaderboard, make_leaderboard
from experiments.folds.fold_page import SUMMARY_NAME, write_fold_page
from experiments.folds.fold_plan import ALL, Overrides, Plan, make_plan
from experiments.folds.fold_text import fold_text, folds_table
from experiments.folds.out_of_fold import gather
from experiments.folds.recommended import make_recommended
from experiments.folds.side_by_side import SideBySide
from experiments.run_files import read_version
from experiments.runs import ABSENT, FINISHED, run_each, run_one, state_of, states_of, train_on_all

if TYPE_CHECKING:
    from experiments.config import Config

PREDICTIONS_NAME, LEADERBOARD_NAME = "predictions_oof.csv", "leaderboard.csv"


def cross_validate(
    source: str,
    overrides: Overrides = (),
    count: int | None = None,
    accept: Sequence[str] = (),
    *,
    repeats: int = 1,
    models: Sequence[str] = (),
    seeds: int = 1,
    grid: Sequence[str] = (),
    jobs: int = 1,
    permutations: int = 0,
    learning_curve: bool = False,
    of: Sequence[str] = (BASELINES,),
) -> int:
    """Run what is not finished yet, then write and print what came of all; returns the exit code.

    ``count`` is of a k-fold, None for the configuration's own split. ``models`` are families,
    ``all`` for all that fit, empty for the configuration's own. Each combination of the ``grid``'s
    ``KEY=VALUE,VALUE`` is a candidate. ``permutations`` of the targets and the ``learning_curve``
    are ``of`` baselines or families.
    """
    plan = make_plan(source, overrides, count, repeats, models, seeds, grid)
    base = plan.base.accepting(accept)
    checks = Checks(permutations, learning_curve, of)
    check_checks(plan, checks)
    _check_earlier(plan)
    print(plan.cohort.describe())
    audit = audit_cohort(base, plan.cohort, None, AUTOMATIC_SCANS) if base.audit.enabled else []
    check_audit(audit)
    plan, states = _with_states(plan, list(models) == [ALL])
    with SideBySide(jobs, plan.base.trainer.device) as processes:
        try:
            _run(plan, states, processes)
            board = replace(_results(plan, processes, checks), audit=audit)
            print(f"\n{fold_text(board)}")
            written = _write(board)
            print(make_recommended(board, processes, train_on_all))
        except StoppedError as stopped:
            print("to continue: the same command line")
            return stopped.code
    for line in written:
        print(line)
    return 0


def _check_earlier(plan: Plan) -> None:
    """Refuse runs of an earlier call whose data were not these."""
    for (_, _, number), config in plan.runs.items():
        if state_of(config) == ABSENT:
            continue
        folder = config.runs_dir / config.exp_name
        version, before = plan.folds[number].version, read_version(folder)
        if before is None:
            continue
        found = version.differences(before)
        if found or before.split != version.split:
            raise UsageError(
                f"{folder} is a run on another cohort: {found or 'the split differs'}; move it "
                "away or set --runs_dir"
            )


def _results(plan: Plan, processes: SideBySide, checks: Checks) -> FoldLeaderboard:
    """Fit the baselines, and compare all models."""
    metric = comparison_metric(plan.base, plan.cohort.task)
    tasks = baseline_tasks(plan, metric) if plan.base.baselines.enabled else []
    do_missing(fit_fold, tasks, processes, "baselines, fold")
    found = gather(plan, metric, [read_fold(task) for task in tasks] or [{}] * len(plan.folds))
    measurable = [name for run in found.runs.values() for name in run.metric_names]
    board = make_leaderboard(found, measurable, processes)
    version = replace(plan.folds[0].version, split="").fingerprint
    told = Message("cohort fingerprint, before the split, {}", version)
    about = [line.capitalized for line in (*plan.cohort.lines(), told)]
    tested, learning = run_checks(found, checks, processes, _run_config)
    return replace(board, about=about, permutations=tested, learning=learning)


def _with_states(plan: Plan, all_that_fit: bool) -> tuple[Plan, list[str]]:
    """How far each run has come; of ``all`` families those that do not fit are left out."""
    for candidate in plan.candidates:
        own = [config for key, config in plan.runs.items() if key[0] == candidate]
        try:
            states_of(own[:1])
        except UsageError as error:
            if not all_that_fit or candidate == plan.base.model.name:
                raise
            print(f"{candidate} is left out: {error}")
            plan = plan.without(candidate)
    return plan, [state_of(config) for config in plan.runs.values()]


def _run(plan: Plan, states: Sequence[str], processes: SideBySide) -> None:
    """Run what is not finished."""
    # Copies: a run replaces ``auto`` by what suits its training set.
    configs = [config.model_copy() for config in plan.runs.values()]
    if processes.jobs == 1:
        code = run_each(configs, states)
        if code is not None:
            raise StoppedError(code)
        return
    left = [
        (config, state) for config, state in zip(configs, states, strict=True) if state != FINISHED
    ]
    if len(left) < len(configs):
        print(f"{len(configs) - len(left)} of {len(configs)} runs: finished before")
    began = time.monotonic()
    for done, (number, code) in enumerate(processes.each(_run_pair, left), start=1):
        if code is not None:
            raise StoppedError(int(code))
        seconds = time.monotonic() - began
        print(f"[{done}/{len(left)}] {left[number][0].exp_name}: {seconds:.0f} s", flush=True)


def _run_config(config: Config) -> int | None:
    return run_one(config, state_of(config))


def _run_pair(pair: tuple[Config, str]) -> int | None:
    return run_one(*pair)


def _write(board: FoldLeaderboard) -> list[str]:
    """Write the tables, the summary and the page; returns lines on them."""
    folder = board.found.plan.folder
    tables = {
        PREDICTIONS_NAME: board.found.table(),
        LEADERBOARD_NAME: board.table,
        "metrics.csv": board.metrics,
        "folds.csv": folds_table(board),
    }
    if board.permutations:
        permuted = {tested.model: pd.Series(tested.permuted) for tested in board.permutations}
        values = pd.concat(permuted, names=["model", "permutation"]).rename(board.found.metric)
        tables["permutations.csv"] = values.reset_index()
    if board.learning is not None:
        tables["learning_curve.csv"] = board.learning
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            write_whole(table.to_csv(index=False).encode(), folder, name, durable=False)
        page = write_fold_page(board, folder)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return [f"{folder / SUMMARY_NAME}", f"open  {page}"]
