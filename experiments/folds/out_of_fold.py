"""The predictions of all models in all folds, and the model that each fold's validation chooses."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import pandas as pd
import torch

from datasets.errors import UsageError
from engine.metrics import TASKS, EpochOutputs
from experiments.baselines import model_losses, ranked
from experiments.run_files import (
    FinishedRun,
    RunFile,
    SavedOutputs,
    outputs_of,
    outputs_table,
    read_predictions,
    read_run,
)

if TYPE_CHECKING:
    from experiments.folds.fold_plan import Plan

RECOMMENDED = "recommended"
# A network is called late_fusion, too.
FUSED_BASELINES = "baselines_late_fusion"
TARGET, OF_MODEL = "target", ":"

Outputs = TypeVar("Outputs", bound=EpochOutputs)
# Model -> its outputs on one set of samples.
Models = Mapping[str, SavedOutputs]


@dataclass(frozen=True)
class OutOfFold:
    """All predictions; ``metric`` chooses and compares the models.

    ``val`` and ``test`` are for each fold model -> outputs; networks of several seeds predict the
    mean of their probabilities (of a regression, of their values). ``test`` also has
    ``recommended``, the model that was chosen in this fold, and each single seed by its name in
    ``single``. ``best_first`` is by the mean over the folds' validation sets.
    """

    plan: Plan
    metric: str
    names: list[str]
    val: list[dict[str, SavedOutputs]]
    test: list[dict[str, SavedOutputs]]
    chosen: list[str]
    best_first: list[str]
    runs: Mapping[tuple[str, int, int], FinishedRun]
    single: Mapping[str, list[str]]

    @property
    def task(self) -> str:
        """A key of ``engine.metrics.TASKS``."""
        return self.test[0][RECOMMENDED].task

    @property
    def networks(self) -> list[str]:
        """The networks, from the best on."""
        return [name for name in self.best_first if name in self.plan.candidates]

    @property
    def baselines(self) -> list[str]:
        """The baselines, from the best on."""
        return [name for name in self.best_first if name not in self.plan.candidates]

    @property
    def groups(self) -> list[str]:
        """The group of each pooled sample."""
        cohort = self.plan.cohort
        of = dict(zip(cohort.sample_ids, map(str, cohort.groups), strict=True))
        return [of[sample] for sample in self.pooled(RECOMMENDED).sample_id]

    @property
    def test_share(self) -> float:
        """Test samples of a fold divided by its training samples, on average."""
        splits = [fold.split for fold in self.plan.folds]
        tested, trained = (sum((of == s).sum() for of in splits) for s in ("test", "train"))
        return float(tested / trained)

    def pooled(self, model: str) -> SavedOutputs:
        """The test samples of all folds, one fold after the other."""
        parts = [of[model] for of in self.test]
        return replace(pool(parts), predicted=torch.cat([part.predicted for part in parts]))

    def table(self) -> pd.DataFrame:
        """``predictions_oof.csv``: one row per test sample (of each repeat).

        ``sample_id``, ``group``, ``repeat``, ``fold``, ``target``, ``chosen``, and for each model
        ``<model>:prediction`` and ``<model>:prob_<class>``, as in a run's ``predictions.csv``.
        """
        parts = []
        for fold, models, chosen in zip(self.plan.folds, self.test, self.chosen, strict=True):
            part = wide_table(models, self.names)
            part.insert(1, "repeat", fold.repeat)
            part.insert(2, "fold", fold.name)
            part.insert(3, "chosen", chosen)
            parts.append(part)
        whole = pd.concat(parts, ignore_index=True)
        whole.insert(1, "group", self.groups)
        return whole


def gather(plan: Plan, metric: str, baselines: Sequence[Mapping[str, Models]]) -> OutOfFold:
    """Read the finished runs; ``baselines``: per fold, ``val`` and ``test`` -> name -> outputs."""
    runs = {
        key: read_run(config.runs_dir / config.exp_name, config.exp_name)
        for key, config in plan.runs.items()
    }
    first = next(iter(runs.values()))
    single = {
        name: [f"{name}@seed{seed}" for seed in plan.seeds] if len(plan.seeds) > 1 else []
        for name in plan.candidates
    }
    val: list[dict[str, SavedOutputs]] = []
    test: list[dict[str, SavedOutputs]] = []
    for number, of_baselines in enumerate(baselines):
        found: dict[str, dict[str, SavedOutputs]] = {"val": {}, "test": {}}
        for name in plan.candidates:
            own = [runs[name, seed, number] for seed in plan.seeds]
            validated = [read_predictions(run.folder / RunFile.VAL_PREDICTIONS)[0] for run in own]
            custom = own[0].outputs.custom
            found["val"][name] = replace(mean_outputs(validated), custom=custom)
            found["test"][name] = mean_outputs([run.outputs for run in own])
            found["test"] |= dict(zip(single[name], (run.outputs for run in own), strict=False))
        for subset, models in of_baselines.items():
            found[subset] |= {
                name: replace(outputs, custom=first.outputs.custom)
                for name, outputs in models.items()
            }
        _check_alike(found["test"])
        val.append(found["val"])
        test.append(found["test"])
    return choose(plan, metric, first.class_names, val, test, runs, single)


def choose(
    plan: Plan,
    metric: str,
    names: list[str],
    val: list[dict[str, SavedOutputs]],
    test: list[dict[str, SavedOutputs]],
    runs: Mapping[tuple[str, int, int], FinishedRun],
    single: Mapping[str, list[str]],
) -> OutOfFold:
    """Choose a model in each fold, and add it as ``recommended``."""
    losses = [model_losses(models, metric) for models in val]
    chosen = [ranked(of_fold)[0] for of_fold in losses]
    tested = [{**models, RECOMMENDED: models[n]} for models, n in zip(test, chosen, strict=True)]
    best_first = ranked(sum(losses[1:], losses[0]) / len(losses))
    return OutOfFold(plan, metric, names, val, tested, chosen, best_first, runs, single)


def pool(parts: Sequence[Outputs]) -> Outputs:
    """The samples of several outputs, one after the other."""
    return replace(
        parts[0],
        logits=torch.cat([part.logits for part in parts]),
        target=torch.cat([part.target for part in parts]),
        sample_id=[sample for part in parts for sample in part.sample_id],
    )


def mean_outputs(of_seeds: Sequence[SavedOutputs]) -> SavedOutputs:
    """The mean of several models' probabilities or values, and what follows from it."""
    first = of_seeds[0]
    if len(of_seeds) == 1:
        return first
    _check_alike(dict(enumerate(of_seeds)))
    scores = torch.stack([outputs.logits for outputs in of_seeds]).mean(dim=0)
    return replace(first, logits=scores, predicted=TASKS[first.task].decide(scores))


def _check_alike(models: Mapping[Any, SavedOutputs]) -> None:
    first = next(iter(models.values()))
    for name, outputs in models.items():
        if outputs.sample_id != first.sample_id or not torch.equal(outputs.target, first.target):
            raise UsageError(
                f"{name} was tested on other samples than the other models of its fold; move the "
                "runs away or set --runs_dir"
            )


def wide_table(models: Mapping[str, EpochOutputs], names: Sequence[str]) -> pd.DataFrame:
    """Several models' outputs of the same samples; each model's columns begin with its name."""
    parts: list[pd.DataFrame] = []
    for model, outputs in models.items():
        target: np.ndarray = outputs.target.numpy()
        table = outputs_table(
            outputs, names, target.astype(np.int64) if outputs.task == "multilabel" else target
        )
        shared = [column for column in table if _is_shared(column)]
        parts += [] if parts else [table[shared]]
        parts.append(table.drop(columns=shared).add_prefix(model + OF_MODEL))
    return pd.concat(parts, axis=1)


def read_wide(table: pd.DataFrame) -> dict[str, SavedOutputs]:
    """The inverse of :func:`wide_table`, of cells as text; other columns are left out."""
    shared = [column for column in table if _is_shared(column)]
    others = [str(column) for column in table if OF_MODEL in str(column) and not _is_shared(column)]
    found = {}
    for model in dict.fromkeys(column.partition(OF_MODEL)[0] for column in others):
        start = model + OF_MODEL
        own = {c: c.removeprefix(start) for c in others if c.startswith(start)}
        found[model] = outputs_of(table[[*shared, *own]].rename(columns=own))[0]
    return found


def _is_shared(column: Any) -> bool:
    return str(column) in ("sample_id", TARGET) or str(column).startswith(f"{TARGET}_")
