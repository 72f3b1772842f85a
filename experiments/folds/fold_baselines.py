"""Baselines of the folds: for each, on permuted targets, and on fewer samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd
import torch

from datasets.cohort import TargetScaler
from datasets.errors import UsageError
from datasets.files import write_whole
from engine.metrics import EpochOutputs
from experiments.baselines import Baselines, baseline_outputs, fit_baselines
from experiments.builders import Data, build_data
from experiments.config import LATE_FUSION, BaselinesConfig, Config
from experiments.folds.out_of_fold import FUSED_BASELINES, SavedOutputs, read_wide, wide_table
from experiments.run_files import digest

if TYPE_CHECKING:
    from experiments.folds.fold_plan import Plan

PREDICTED, PART = ("val", "test"), "part"
DIGITS = 12


class FoldTask(NamedTuple):
    """What a process does in one fold; ``metric`` chooses the members of late fusion.

    ``path`` is where the outputs are kept. ``targets`` are permuted ones of the cohort, [N] or [N,
    T] each; ``shares`` are of the training samples; ``models`` are fitted instead of the configured
    baselines.
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


def baseline_tasks(
    plan: Plan, metric: str, kind: str = "fitted", told: Sequence[Any] = (), **changes: Any
) -> list[FoldTask]:
    """One task for each fold; its file is named by its kind and by all that it depends on.

    ``told`` has in plain types what ``changes`` of the task say.
    """
    tasks = []
    for number, fold in enumerate(plan.folds):
        config = fold.config
        known = [fold.version.plain(), config.baselines.plain(), metric, config.seed, *told]
        name = f"{kind}-fold{number}-{digest(known)[:DIGITS]}.csv"
        tasks.append(FoldTask(config, metric, plan.folder / "baselines" / name, **changes))
    return tasks


def fit_fold(task: FoldTask) -> None:
    """Fit the baselines to a fold's training set; keeps the outputs on ``val`` and ``test``."""
    data = build_data(task.config)
    fitted = fit_baselines(data, task.settings, task.metric, task.config.seed)
    _keep(task, data, {subset: _measured(fitted, data, subset) for subset in PREDICTED})


def permuted_fold(task: FoldTask) -> None:
    """Fit the task's models to each of its targets; keeps the last one's outputs on the test set.

    They are called by the number of the permutation.
    """
    data, settings, name = build_data(task.config), task.settings, task.models[-1]
    parts = {}
    for number, targets in enumerate(task.targets):
        permuted = _with_targets(data, targets)
        fitted = fit_baselines(permuted, settings, task.metric, task.config.seed)
        outputs = baseline_outputs(fitted, permuted, "test")[name]
        target = torch.from_numpy(targets[data.split == "test"])
        parts[str(number)] = {name: replace(outputs, target=target)}
    _keep(task, data, parts)


def learning_fold(task: FoldTask) -> None:
    """Fit the baselines to each share of the training samples; keeps outputs on the test set.

    Whole groups are drawn, those of a smaller share are among those of a larger one. A share that
    lacks a class is left out.
    """
    data, settings = build_data(task.config), task.settings
    most = min(len(data.datasets["train"]), settings.max_samples)
    parts = {}
    for share in task.shares:
        fewer = settings.model_copy(update={"max_samples": max(1, round(share * most))})
        with suppress(UsageError):
            fitted = fit_baselines(data, fewer, task.metric, task.config.seed)
            parts[str(share)] = _measured(fitted, data, "test")
    _keep(task, data, parts)


def _measured(fitted: Baselines, data: Data, subset: str) -> dict[str, EpochOutputs]:
    """Baseline -> outputs; late fusion is called otherwise, as a network has that name, too."""
    # The cohort's own values: those of a dataset are standardised, and of single precision.
    target = torch.from_numpy(data.cohort.targets[data.split == subset])
    return {
        FUSED_BASELINES if name == LATE_FUSION else name: replace(outputs, target=target)
        for name, outputs in baseline_outputs(fitted, data, subset).items()
    }


def _keep(task: FoldTask, data: Data, parts: Mapping[str, Mapping[str, EpochOutputs]]) -> None:
    """Write a table of outputs, whose column ``part`` names the part that a row is of."""
    tables = []
    for name, outputs in parts.items():
        tables.append(wide_table(outputs, data.cohort.class_names))
        tables[-1].insert(1, PART, name)
    try:
        task.path.parent.mkdir(parents=True, exist_ok=True)
        text = pd.concat(tables).to_csv(index=False)
        write_whole(text.encode(), task.path.parent, task.path.name)
    except OSError as error:
        raise UsageError(f"cannot write to {task.path.parent}: {error.strerror}") from error


def read_fold(task: FoldTask) -> dict[str, dict[str, SavedOutputs]]:
    """What a task has kept: part -> baseline -> outputs."""
    table = pd.read_csv(task.path, dtype=str, keep_default_na=False)
    return {str(part): read_wide(rows) for part, rows in table.groupby(PART, sort=False)}


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


def members_of(name: str, best_first: Sequence[str]) -> list[str]:
    """The baselines to fit for one: itself, or the best of each modality that are fused."""
    if name != FUSED_BASELINES:
        return [name]
    of = {
        modality: next(n for n in best_first if n.startswith(modality))
        for modality in ("spectra", "covariates")
    }
    return [*of.values(), LATE_FUSION]
