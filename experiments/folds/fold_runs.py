"""All folds of a configuration: each is run, then all are summarised together.

Each fold is run as an experiment of its own, ``<exp_name>-fold<number>`` and, where folds are
groups or batches, their name. Runs that are finished are not run again, and one that was cut off
is continued: the same call goes on where it was stopped. ``<exp_name>-folds`` is made anew from
the runs each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from datasets.cohort import Cohort
from datasets.errors import UsageError, nearest
from datasets.splits import Folds
from experiments.builders import digest_memory, make_folds, read_cohort, split_fold
from experiments.config import IN_FOLDS, Config, load_config
from experiments.folds.fold_results import FoldResults, fold_results, fold_text, write_fold_results
from experiments.run_files import DataVersion, data_version, read_runs, read_version
from experiments.runs import ABSENT, run_planned, state_of

# What folds decide cannot be set for all of them at once.
DECIDED = {
    "data.split.fold": "every fold is run",
    "data.split.file": "a file is one split, and no folds",
}
# Longer names of groups are cut: a folder's name has to stay one.
LONGEST_NAME = 40


@dataclass(frozen=True)
class Plan:
    """The runs of a cross-validation: one configuration and one data version per fold."""

    base: Config
    cohort: Cohort
    folds: Folds
    configs: list[Config]
    versions: list[DataVersion]


def cross_validate(
    source: str,
    overrides: Sequence[tuple[str, str]] = (),
    count: int | None = None,
    accept: Sequence[str] = (),
) -> int:
    """Run the folds that are not finished yet, then write and print what came of all.

    ``count`` makes it a k-fold of so many; ``accept`` are findings of the audit that do not stop a
    training. Returns the exit code.
    """
    plan = plan_folds(source, overrides, count, accept)
    check_earlier(plan)
    print(plan.cohort.describe())
    code = run_planned(plan.configs, lambda config: None)
    if code is not None:
        print("to continue: the same command line")
        return code
    results = collect(plan)
    folder = plan.base.runs_dir / f"{plan.base.exp_name}-folds"
    page = write_fold_results(results, folder)
    print(f"\n{fold_text(results)}\n{page}")
    return 0


def plan_folds(
    source: str,
    overrides: Sequence[tuple[str, str]] = (),
    count: int | None = None,
    accept: Sequence[str] = (),
) -> Plan:
    """Read the cohort and split it, fold by fold."""
    for key, _ in overrides:
        if key in DECIDED:
            raise UsageError(f"--{key}: {DECIDED[key]}")
    shared = list(overrides)
    if count is not None:
        shared += [("data.split.kind", "kfold"), ("data.split.folds", str(count))]
    base = load_config(source, shared)
    split = base.data.split
    if split.file is not None:
        raise UsageError(f"data.split.file: {DECIDED['data.split.file']}; leave it out")
    if split.kind not in IN_FOLDS:
        raise UsageError(
            f"data.split.kind: a {split.kind} has no folds{nearest(split.kind, IN_FOLDS)}; or give "
            "--folds, how many a kfold is to have"
        )
    cohort = read_cohort(base.data)
    files = cohort.fingerprint(digest_memory(base.data))
    folds = make_folds(cohort, base.data)
    configs, versions = [], []
    for number, name in enumerate(folds.names):
        split_of = split_fold(cohort, base.data, folds, number)
        by_number = split.kind == "kfold"
        fold = str(number) if by_number else json.dumps(name, ensure_ascii=False)
        called = f"{base.exp_name}-fold{number}{'' if by_number else f'-{_as_file_name(name)}'}"
        own = [
            *shared,
            ("data.split.fold", fold),
            ("exp_name", json.dumps(called, ensure_ascii=False)),
        ]
        configs.append(load_config(source, own).accepting(accept))
        version = data_version(base.data, cohort, files)
        versions.append(version.with_split(cohort.sample_ids, split_of))
    return Plan(base, cohort, folds, configs, versions)


def check_earlier(plan: Plan) -> None:
    """Refuse runs of an earlier call whose data were not these."""
    for config, version in zip(plan.configs, plan.versions, strict=True):
        if state_of(config) == ABSENT:
            continue
        folder = config.runs_dir / config.exp_name
        before = read_version(folder)
        if before is None:
            continue
        found = version.differences(before)
        if found or before.split != version.split:
            raise UsageError(
                f"{folder} is a run on another cohort: {found or 'the split differs'}; move it "
                "away or set --runs_dir"
            )


def collect(plan: Plan) -> FoldResults:
    """The results of the finished runs together."""
    runs = read_runs([config.runs_dir / config.exp_name for config in plan.configs])
    return fold_results(
        plan.base.exp_name,
        plan.folds,
        runs,
        about=[
            *plan.cohort.describe().splitlines(),
            f"cohort fingerprint, before the split, {plan.versions[0].unsplit().fingerprint}",
        ],
        resamples=plan.base.report.resamples,
        seed=plan.base.seed,
    )


def _as_file_name(name: str) -> str:
    """A group's name as a part of a folder's; the fold's number keeps those alike apart."""
    return re.sub(r"[^\w.+-]+", "_", name)[:LONGEST_NAME]
