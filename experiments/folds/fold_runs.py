"""A cross-validation from its plan to its page.

Each run of a network is an experiment of its own: ``<exp_name>-fold<number>`` (and, where folds are
groups or batches, their name), with the name of the model and the seed for others than the
configuration's own. What is finished is not run again, and what was cut off is continued: the same
call goes on where it was stopped. ``<exp_name>-folds`` is made anew from the runs each time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.metrics import better_when, metric_value
from experiments.analysis import AUTOMATIC_SCANS, audit_cohort, check_audit
from experiments.baselines import comparison_metric
from experiments.folds.fold_baselines import (
    FoldTask,
    baseline_tasks,
    fit_fold,
    learning_fold,
    members_of,
    permute,
    permuted_fold,
    read_fold,
    refit_recommended,
)
from experiments.folds.fold_leaderboard import FoldLeaderboard, Permutations, make_leaderboard
from experiments.folds.fold_page import SUMMARY_NAME, write_fold_page
from experiments.folds.fold_plan import ALL, Overrides, Plan, make_plan
from experiments.folds.fold_text import fold_text, folds_table
from experiments.folds.out_of_fold import OutOfFold, gather, pool
from experiments.folds.side_by_side import SideBySide
from experiments.run_files import read_version
from experiments.runs import ABSENT, FINISHED, run_each, run_one, state_of, states_of

if TYPE_CHECKING:
    from experiments.config import Config

PREDICTIONS_NAME, LEADERBOARD_NAME = "predictions_oof.csv", "leaderboard.csv"
RECOMMENDED_FOLDER = "recommended"
# Of the training samples, for the learning curve.
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)


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
) -> int:
    """Run what is not finished yet, then write and print what came of all; returns the exit code.

    ``count`` is of a k-fold, None for the configuration's own split. ``models`` are families,
    ``all`` for all that fit, empty for the configuration's own. Each combination of the ``grid``'s
    ``KEY=VALUE,VALUE`` is a candidate. ``permutations`` of the targets test the best baseline.
    """
    plan = make_plan(source, overrides, count, repeats, models, seeds, grid)
    base = plan.base.accepting(accept)
    if (permutations or learning_curve) and not base.baselines.enabled:
        option = "--permutations" if permutations else "--learning-curve"
        raise UsageError(f"{option} is of baselines: set baselines.enabled true")
    _check_earlier(plan)
    print(plan.cohort.describe())
    audit = audit_cohort(base, plan.cohort, None, AUTOMATIC_SCANS) if base.audit.enabled else []
    check_audit(audit)
    plan, states = _with_states(plan, list(models) == [ALL])
    with SideBySide(jobs, plan.base.trainer.device) as processes:
        code = _run(plan, states, processes)
        if code is not None:
            print("to continue: the same command line")
            return code
        board = _results(plan, processes, permutations, learning_curve)
    board = replace(board, audit=audit)
    print(f"\n{fold_text(board)}")
    for line in _write(board):
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


def _results(
    plan: Plan, processes: SideBySide, permutations: int, learning_curve: bool
) -> FoldLeaderboard:
    """Fit the baselines, and compare all models."""
    metric = comparison_metric(plan.base, plan.cohort.task)
    tasks = baseline_tasks(plan, metric) if plan.base.baselines.enabled else []
    missing = [task for task in tasks if not task.path.is_file()]
    _work(fit_fold, missing, processes, "baselines of fold {} of {}")
    found = gather(plan, metric, [read_fold(task) for task in tasks] or [{}] * len(plan.folds))
    measurable = [name for run in found.runs.values() for name in run.metric_names]
    board = make_leaderboard(found, measurable, processes)
    version = replace(plan.folds[0].version, split="").fingerprint
    told = f"cohort fingerprint, before the split, {version}"
    about = [*plan.cohort.describe().splitlines(), told]
    tested = _permute(found, tasks, permutations, processes) if permutations else None
    learning = _learn(found, tasks, processes) if learning_curve else None
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


def _run(plan: Plan, states: Sequence[str], processes: SideBySide) -> int | None:
    """Run what is not finished; returns the exit code if a signal stopped a run."""
    configs = list(plan.runs.values())
    if processes.jobs == 1:
        return run_each(configs, states)
    left = [
        (config, state) for config, state in zip(configs, states, strict=True) if state != FINISHED
    ]
    if len(left) < len(configs):
        print(f"{len(configs) - len(left)} of {len(configs)} runs: finished before")
    began = time.monotonic()
    for done, (number, code) in enumerate(processes.each(_run_pair, left), start=1):
        if code is not None:
            return int(code)
        seconds = time.monotonic() - began
        print(f"[{done}/{len(left)}] {left[number][0].exp_name}: {seconds:.0f} s", flush=True)
    return None


def _run_pair(pair: tuple[Config, str]) -> int | None:
    return run_one(*pair)


def _work(
    work: Callable[[Any], Any], tasks: Sequence[FoldTask], processes: SideBySide, told: str
) -> list[Any]:
    """The result of each task, in their order."""
    results: list[Any] = [None] * len(tasks)
    for done, (number, result) in enumerate(processes.each(work, tasks), start=1):
        results[number] = result
        print(told.format(done, len(tasks)), flush=True)
    return results


def _permute(
    found: OutOfFold, tasks: Sequence[FoldTask], count: int, processes: SideBySide
) -> Permutations:
    best, metric = found.baselines[0], found.metric
    targets, models = permute(found.plan, count), members_of(best, found.baselines)
    asked = [task._replace(targets=targets, models=models) for task in tasks]
    folds = _work(permuted_fold, asked, processes, f"{count} permutations of fold {{}} of {{}}")
    values = [metric_value(metric, pool(of_folds)) for of_folds in zip(*folds, strict=True)]
    observed = metric_value(metric, found.pooled(best))
    return Permutations(best, observed, values, better_when(metric) == "min")


def _learn(found: OutOfFold, tasks: Sequence[FoldTask], processes: SideBySide) -> pd.DataFrame:
    asked = [task._replace(shares=SHARES) for task in tasks]
    folds = _work(learning_fold, asked, processes, "learning curve of fold {} of {}")
    trained = sum(int((fold.split == "train").sum()) for fold in found.plan.folds) / len(tasks)
    rows = []
    for share, of_folds in zip(SHARES, zip(*folds, strict=True), strict=True):
        for model in found.baselines if all(of_folds) else ():
            value = metric_value(found.metric, pool([of_fold[model] for of_fold in of_folds]))
            rows.append([share, round(share * trained), model, value])
    return pd.DataFrame(rows, columns=["share", "samples", "model", found.metric])


def _write(board: FoldLeaderboard) -> list[str]:
    """Write the tables, the summary, the page and the recommended model; returns lines on them."""
    folder = board.found.plan.folder
    tables = {
        PREDICTIONS_NAME: board.found.table(),
        LEADERBOARD_NAME: board.table,
        "metrics.csv": board.metrics,
        "folds.csv": folds_table(board),
    }
    if board.permutations is not None:
        tables["permutations.csv"] = pd.DataFrame({board.found.metric: board.permutations.permuted})
    if board.learning is not None:
        tables["learning_curve.csv"] = board.learning
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, table in tables.items():
            write_whole(table.to_csv(index=False).encode(), folder, name, durable=False)
        line = refit_recommended(board.found, folder / RECOMMENDED_FOLDER)
        page = write_fold_page(board, folder)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    return [line, f"{folder / SUMMARY_NAME}", f"open  {page}"]
