"""Baselines of the folds: for each, on permuted targets, on fewer samples, and on all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pandas as pd
import torch

from datasets.cohort import TargetScaler
from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.splits import SUBSETS
from engine.metrics import CLASSES, EpochOutputs
from experiments.baselines import baseline_outputs, fit_baselines, save_baselines
from experiments.builders import Data, build_data
from experiments.config import LATE_FUSION, BaselinesConfig, Config, write_yaml
from experiments.folds.out_of_fold import FUSED_BASELINES, SavedOutputs, read_wide, wide_table
from experiments.run_files import RunFile, digest
from experiments.runs import pack_preprocessing

if TYPE_CHECKING:
    from experiments.folds.fold_plan import Plan
    from experiments.folds.out_of_fold import OutOfFold

SUBSET, PREDICTED = "subset", ("val", "test")
DIGITS = 12
# Draws of permuted targets until every training set has every class.
MOST_DRAWS = 1000


class FoldTask(NamedTuple):
    """What a process does in one fold; ``metric`` chooses the members of late fusion.

    ``targets`` are permuted ones of the cohort, [N] or [N, T] each; ``shares`` are of the training
    samples; ``models`` are fitted instead of the configured baselines.
    """

    config: Config
    metric: str
    path: Path
    targets: Sequence[np.ndarray] = ()
    shares: Sequence[float] = ()
    models: Sequence[str] = ()

    @property
    def settings(self) -> BaselinesConfig:
        """Of the baselines."""
        found = self.config.baselines
        return found.model_copy(update={"models": list(self.models)}) if self.models else found


def baseline_tasks(plan: Plan, metric: str) -> list[FoldTask]:
    """One task for each fold; its file is named by all that it depends on."""
    tasks = []
    for number, fold in enumerate(plan.folds):
        config = fold.config
        told = [fold.version.plain(), config.baselines.plain(), metric, config.seed]
        name = f"fold{number}-{digest(told)[:DIGITS]}.csv"
        tasks.append(FoldTask(config, metric, plan.folder / "baselines" / name))
    return tasks


def fit_fold(task: FoldTask) -> None:
    """Fit the baselines to a fold's training set, and write their predictions."""
    data = build_data(task.config)
    fitted = fit_baselines(data, task.settings, task.metric, task.config.seed)
    parts = []
    for subset in PREDICTED:
        # The cohort's own values: those of a dataset are standardised, and of single precision.
        target = torch.from_numpy(data.cohort.targets[data.split == subset])
        outputs = {
            name: replace(of, target=target)
            for name, of in _renamed(baseline_outputs(fitted, data, subset)).items()
        }
        part = wide_table(outputs, data.cohort.class_names)
        part.insert(1, SUBSET, subset)
        parts.append(part)
    try:
        task.path.parent.mkdir(parents=True, exist_ok=True)
        text = pd.concat(parts).to_csv(index=False)
        write_whole(text.encode(), task.path.parent, task.path.name)
    except OSError as error:
        raise UsageError(f"cannot write to {task.path.parent}: {error.strerror}") from error


def read_fold(task: FoldTask) -> dict[str, dict[str, SavedOutputs]]:
    """``val`` and ``test`` -> baseline -> outputs."""
    table = pd.read_csv(task.path, dtype=str, keep_default_na=False)
    return {subset: read_wide(table[table[SUBSET] == subset]) for subset in PREDICTED}


def _renamed(outputs: Mapping[str, EpochOutputs]) -> dict[str, EpochOutputs]:
    return {FUSED_BASELINES if n == LATE_FUSION else n: found for n, found in outputs.items()}


def members_of(name: str, best_first: Sequence[str]) -> list[str]:
    """The baselines to fit for one: itself, or the best of each modality that are fused."""
    if name != FUSED_BASELINES:
        return [name]
    of = {
        modality: next(n for n in best_first if n.startswith(modality))
        for modality in ("spectra", "covariates")
    }
    return [*of.values(), LATE_FUSION]


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
    if plan.cohort.task not in CLASSES:
        return True
    classes = len(plan.cohort.class_names)
    return all(
        len(np.unique(targets[fold.split == subset])) == classes
        for fold in plan.folds
        for subset in ("train", "val")
    )


def permuted_fold(task: FoldTask) -> list[EpochOutputs]:
    """The last of the task's models, fitted to each of its targets: outputs on the test set."""
    data, settings = build_data(task.config), task.settings
    found = []
    for targets in task.targets:
        permuted = _with_targets(data, targets)
        fitted = fit_baselines(permuted, settings, task.metric, task.config.seed)
        found.append(baseline_outputs(fitted, permuted, "test")[task.models[-1]])
    return found


def _with_targets(data: Data, targets: np.ndarray) -> Data:
    scaler, scaled = None, targets
    if data.scaler is not None:
        scaler = TargetScaler().fit(targets[data.split == "train"])
        scaled = scaler.standardize(targets)
    changed = {}
    for subset, dataset in data.datasets.items():
        changed[subset] = copy(dataset)
        changed[subset].targets = scaled[data.split == subset]
    cohort = replace(data.cohort, targets=targets)
    return replace(data, cohort=cohort, scaler=scaler, datasets=changed)


def learning_fold(task: FoldTask) -> list[dict[str, EpochOutputs]]:
    """For each share of the training samples: baseline -> outputs on the test set.

    Whole groups are drawn, those of a smaller share are among those of a larger one. Empty where
    a share lacks a class.
    """
    data, settings = build_data(task.config), task.settings
    most = min(len(data.datasets["train"]), settings.max_samples)
    found: list[dict[str, EpochOutputs]] = []
    for share in task.shares:
        fewer = settings.model_copy(update={"max_samples": max(1, round(share * most))})
        try:
            fitted = fit_baselines(data, fewer, task.metric, task.config.seed)
        except UsageError:
            found.append({})
            continue
        found.append(_renamed(baseline_outputs(fitted, data, "test")))
    return found


def refit_recommended(found: OutOfFold, folder: Path) -> str:
    """Fit the recommended baseline, transforms and encoder to all samples; returns a line on it.

    Writes ``baselines.skops``, ``preprocessing.pt`` and ``config.yaml``. Of a network, which is not
    trained here, only ``config.yaml``: its settings with the median number of epochs of its runs.
    """
    plan, best = found.plan, found.best_first[0]
    folder.mkdir(parents=True, exist_ok=True)
    if best in plan.candidates:
        own = {key: run for key, run in found.runs.items() if key[0] == best}
        config = plan.runs[next(iter(own))]
        settings = config.plain()
        settings["exp_name"] = f"{plan.base.exp_name}-recommended"
        settings["trainer"]["max_epochs"] = round(median(run.epochs for run in own.values()))
        settings["data"]["split"] = plan.base.data.split.plain() | {"fold": None}
        write_whole(write_yaml(settings).encode(), folder, RunFile.CONFIG)
        return f"to train {best} on new samples: experiments/run.py {folder / RunFile.CONFIG}"
    config = plan.folds[0].config
    names = members_of(best, found.best_first)
    data = build_data(config, fitted_on=SUBSETS)
    singles = [name for name in names if name != LATE_FUSION]
    settings_of = config.baselines.model_copy(update={"models": singles})
    fitted = fit_baselines(data, settings_of, found.metric, config.seed)
    if LATE_FUSION in names:
        fitted = replace(fitted, fused=singles)
    write_whole(pack_preprocessing(data), folder, RunFile.PREPROCESSING)
    settings = plan.base.plain()
    settings["data"]["transforms"] = config.plain()["data"]["transforms"]
    write_whole(write_yaml(settings).encode(), folder, RunFile.CONFIG)
    return save_baselines(fitted, folder) or f"recommended model, of all samples: {folder}"
