"""Permutation tests and learning curves, of baselines and of networks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd

from datasets.errors import UsageError, nearest
from datasets.splits import class_strata
from engine.metrics import better_when, metric_value
from experiments.builders import draw_groups
from experiments.folds.changed_runs import ChangedRun, run_changed
from experiments.folds.fold_baselines import (
    DIGITS,
    FoldTask,
    baseline_tasks,
    learning_fold,
    members_of,
    permuted_fold,
    read_fold,
)
from experiments.folds.fold_leaderboard import Permutations
from experiments.folds.out_of_fold import SavedOutputs, mean_outputs, pool
from experiments.run_files import digest, read_predictions

if TYPE_CHECKING:
    from experiments.config import Config
    from experiments.folds.fold_plan import Plan
    from experiments.folds.out_of_fold import OutOfFold
    from experiments.folds.side_by_side import SideBySide

BASELINES = "baselines"
# Of the training samples, for the learning curve.
SHARES = (0.2, 0.4, 0.6, 0.8, 1.0)
# Draws of permuted targets until every training set has every class.
MOST_DRAWS = 1000

Task = TypeVar("Task", "FoldTask", ChangedRun)
# Of each permutation or share, each fold, each seed.
RunsOfFolds = Sequence[Sequence[Sequence[ChangedRun]]]
DoRuns = Callable[[RunsOfFolds, str], None]


class Checks(NamedTuple):
    """What is checked: ``of`` has ``baselines`` and names of networks."""

    permutations: int = 0
    learning_curve: bool = False
    of: Sequence[str] = (BASELINES,)

    @property
    def option(self) -> str:
        """The option that asks for a check; empty if none does."""
        return (
            "--permutations" * bool(self.permutations) or "--learning-curve" * self.learning_curve
        )


class StoppedError(Exception):
    """A signal stopped a run; ``code`` is the exit code of the process."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def check_checks(plan: Plan, checks: Checks) -> None:
    """Refuse checks of what is not run."""
    if not checks.option:
        if tuple(checks.of) != (BASELINES,):
            raise UsageError("--of goes with --permutations or --learning-curve")
        return
    if BASELINES in checks.of and not plan.base.baselines.enabled:
        raise UsageError(
            f"{checks.option} is of baselines: set baselines.enabled true, or name networks by --of"
        )
    known = [BASELINES, *dict.fromkeys(map(_family, plan.candidates))]
    for name in checks.of:
        if name not in (*known, *plan.candidates):
            raise UsageError(
                f"--of: '{name}' is neither baselines nor one of the networks that are run"
                f"{nearest(name, known)}"
            )


def _family(candidate: str) -> str:
    """Without the settings of a grid."""
    return candidate.partition(" ")[0]


def run_checks(
    found: OutOfFold, checks: Checks, processes: SideBySide, run: Callable[[Config], int | None]
) -> tuple[list[Permutations], pd.DataFrame | None]:
    """Make the permutation tests and the learning curves; what is kept is not made again.

    The best baseline is permuted, all have a curve. Of a family with a grid it is the network that
    is best on the validation sets. ``run`` starts or continues the run of a configuration.
    """
    of = dict.fromkeys(checks.of)
    networks = dict.fromkeys(
        next(n for n in found.networks if name in (n, _family(n)))
        for name in of
        if name != BASELINES
    )

    def do_runs(runs: RunsOfFolds, told: str) -> None:
        each = [one for folds in runs for of_seeds in folds for one in of_seeds]
        do_missing(partial(run_changed, run), each, processes, told)

    tested: list[Permutations] = []
    curves: list[pd.DataFrame] = []
    if checks.permutations:
        targets = permute(found.plan, checks.permutations)
        if BASELINES in of:
            tested.append(_permuted_baseline(found, targets, processes))
        tested += [_permuted_network(found, name, targets, do_runs) for name in networks]
    if checks.learning_curve:
        if BASELINES in of:
            curves.append(_curve_of_baselines(found, processes))
        curves += [_curve_of_network(found, name, do_runs) for name in networks]
    return tested, pd.concat(curves, ignore_index=True) if curves else None


def do_missing(
    work: Callable[[Task], Any], tasks: Sequence[Task], processes: SideBySide, told: str
) -> None:
    """Do the tasks whose files are missing; StoppedError if a signal stopped one."""
    missing = [task for task in tasks if not task.path.is_file()]
    if len(missing) < len(tasks):
        print(f"{told} 1 to {len(tasks)}: {len(tasks) - len(missing)} finished before")
    for done, (_, code) in enumerate(processes.each(work, missing), start=1):
        if code is not None:
            raise StoppedError(int(code))
        print(f"{told} {done} of {len(missing)}", flush=True)


# -- baselines ----------------------------------------------------------------------------------


def _permuted_baseline(
    found: OutOfFold, targets: Sequence[np.ndarray], processes: SideBySide
) -> Permutations:
    best = found.baselines[0]
    models = members_of(best, found.baselines)
    told = [models, [of.tolist() for of in targets]]
    changes = {"targets": targets, "models": models}
    tasks = baseline_tasks(found.plan, found.metric, "permuted", told, **changes)
    do_missing(permuted_fold, tasks, processes, f"{len(targets)} permutations, fold")
    folds = [[next(iter(of.values())) for of in read_fold(task).values()] for task in tasks]
    return _tested(found, best, zip(*folds, strict=True))


def _curve_of_baselines(found: OutOfFold, processes: SideBySide) -> pd.DataFrame:
    tasks: list[FoldTask] = baseline_tasks(
        found.plan, found.metric, "learning", [list(SHARES)], shares=SHARES
    )
    do_missing(learning_fold, tasks, processes, "learning curve, fold")
    folds = [read_fold(task) for task in tasks]
    rows = []
    for share in SHARES:
        of_folds = [fold.get(str(share), {}) for fold in folds]
        for name in found.baselines if all(of_folds) else ():
            rows.append(_point(found, name, share, [fold[name] for fold in of_folds]))
    return _as_curve(found, rows)


# -- networks -----------------------------------------------------------------------------------


def _permuted_network(
    found: OutOfFold, name: str, targets: Sequence[np.ndarray], do_runs: DoRuns
) -> Permutations:
    runs = [
        [_runs_of_fold(found, name, number, f"permuted{n}", of) for number in _folds(found)]
        for n, of in enumerate(targets)
    ]
    do_runs(runs, f"{name}, permuted targets, run")
    return _tested(found, name, ([_read(own) for own in folds] for folds in runs))


def _curve_of_network(found: OutOfFold, name: str, do_runs: DoRuns) -> pd.DataFrame:
    """Of all training samples it is what the folds' own runs have predicted."""
    fewer = {}
    for share in SHARES[:-1]:
        splits = [_fewer(found.plan, number, share) for number in _folds(found)]
        if all(split is not None for split in splits):
            fewer[share] = [
                _runs_of_fold(found, name, number, f"share{share}", split=split)
                for number, split in enumerate(splits)
            ]
    do_runs(list(fewer.values()), f"{name}, fewer training samples, run")
    of_share = {share: [_read(own) for own in folds] for share, folds in fewer.items()}
    of_share[SHARES[-1]] = [fold[name] for fold in found.test]
    rows = [_point(found, name, share, folds) for share, folds in of_share.items()]
    return _as_curve(found, rows)


def _folds(found: OutOfFold) -> range:
    return range(len(found.plan.folds))


def _fewer(plan: Plan, number: int, share: float) -> np.ndarray | None:
    """The split of a fold with a share of its training samples; None if these lack a class.

    The groups are those that baselines are fitted to.
    """
    fold, cohort = plan.folds[number], plan.cohort
    trained = np.flatnonzero(fold.split == "train")
    most = max(1, round(share * len(trained)))
    kept = trained[draw_groups(cohort.groups[trained], most, fold.config.seed)]
    split = fold.split.copy()
    split[np.setdiff1d(trained, kept)] = ""
    return split if _has_all(plan, cohort.targets, kept) else None


def _runs_of_fold(
    found: OutOfFold,
    name: str,
    number: int,
    kind: str,
    targets: np.ndarray | None = None,
    split: np.ndarray | None = None,
) -> list[ChangedRun]:
    """The run of each seed in a fold; its file is named by all that it depends on."""
    plan, fold = found.plan, found.plan.folds[number]
    targets = plan.cohort.targets if targets is None else targets
    split = fold.split if split is None else split
    runs = []
    for seed in plan.seeds:
        config = plan.runs[name, seed, number]
        settings = config.plain()
        del settings["exp_name"], settings["runs_dir"]
        told = [fold.version.plain(), settings, targets.tolist(), split.tolist()]
        stem = f"{config.exp_name}-{kind}-{digest(told)[:DIGITS]}"
        columns = fold.version.preparation["label"]
        path = plan.folder / "networks" / f"{stem}.csv"
        runs.append(ChangedRun(config, plan.cohort, columns, targets, split, path))
    return runs


def _read(seeds: Sequence[ChangedRun]) -> SavedOutputs:
    return mean_outputs([read_predictions(run.path)[0] for run in seeds])


# -- figures ------------------------------------------------------------------------------------


def _measure(found: OutOfFold, name: str, folds: Sequence[SavedOutputs]) -> float:
    """The chosen metric on the test samples of all folds together."""
    own = found.pooled(name).custom
    return metric_value(found.metric, pool([replace(outputs, custom=own) for outputs in folds]))


def _tested(
    found: OutOfFold, name: str, permuted: Iterator[Sequence[SavedOutputs]]
) -> Permutations:
    values = [_measure(found, name, folds) for folds in permuted]
    observed = metric_value(found.metric, found.pooled(name))
    return Permutations(name, observed, values, better_when(found.metric) == "min")


def _point(found: OutOfFold, name: str, share: float, folds: Sequence[SavedOutputs]) -> list[Any]:
    splits = [fold.split for fold in found.plan.folds]
    trained = sum(int((split == "train").sum()) for split in splits) / len(splits)
    return [share, round(share * trained), name, _measure(found, name, folds)]


def _as_curve(found: OutOfFold, rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["share", "samples", "model", found.metric])


# -- permuted targets ---------------------------------------------------------------------------


def permute(plan: Plan, count: int) -> list[np.ndarray]:
    """Permuted targets of the cohort, ``count`` times.

    Groups exchange their target if each has one; otherwise the samples of each group do.
    """
    cohort, rng = plan.cohort, np.random.default_rng(plan.base.seed)
    names, group_of = np.unique(cohort.groups, return_inverse=True)
    first = np.unique(group_of, return_index=True)[1]
    constant = (cohort.targets == cohort.targets[first][group_of]).all()
    found: list[np.ndarray] = []
    for _ in range(MOST_DRAWS * count):
        if len(found) == count:
            return found
        if constant:
            targets = cohort.targets[first][rng.permutation(len(names))][group_of]
        else:
            shuffled = rng.permutation(len(group_of))
            order = shuffled[np.argsort(group_of[shuffled], kind="stable")]
            targets = np.empty_like(cohort.targets)
            targets[np.argsort(group_of, kind="stable")] = cohort.targets[order]
        if _fits(plan, targets):
            found.append(targets)
    raise UsageError("--permutations: permuted labels leave a fold's training set without a class")


def _fits(plan: Plan, targets: np.ndarray) -> bool:
    # A k-fold is drawn so that every test set has every class, too; a group or a batch may not.
    whole = ("train", "val", "test") if plan.kind == "fold" else ("train", "val")
    return all(
        _has_all(plan, targets, np.flatnonzero(fold.split == subset))
        for fold in plan.folds
        for subset in whole
    )


def _has_all(plan: Plan, targets: np.ndarray, rows: np.ndarray) -> bool:
    """Whether these samples have every class, or of each label both values if all samples do."""
    if plan.cohort.task == "regression":
        return True
    members = class_strata(targets, plan.cohort.class_names).members  # [N, K]
    return bool(members[rows][:, members.any(axis=0)].any(axis=0).all())
