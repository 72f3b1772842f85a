"""Fit baselines to the run's own training set, with its transforms and covariate encoder."""

from __future__ import annotations

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from joblib import Parallel, cpu_count, delayed, parallel_config
from threadpoolctl import threadpool_limits
from torch import Tensor

from datasets.errors import UsageError, nearest
from engine.metrics import CLASSES, EpochOutputs
from experiments.baselines.choice import model_losses, ranked
from experiments.config import LATE_FUSION, BaselinesConfig
from models.classical import CLASSIFIERS, REGRESSORS, SMALLEST, ClassicalModel, Recipe, fit_model

if TYPE_CHECKING:
    from datasets.cohort import TargetScaler
    from experiments.builders import Data

# A single one would fit nothing before it is asked for the results.
FEWEST_PROCESSES = 2


@dataclass(frozen=True)
class Baselines:
    """Fitted baselines.

    ``fused`` are those whose logits late fusion averages, the best of each modality on the
    validation set, or none. ``drawn`` is the number of training samples fitted to, if not all.
    """

    task: str
    models: Mapping[str, ClassicalModel]
    fused: Sequence[str] = ()
    scaler: TargetScaler | None = None
    drawn: int | None = None

    @property
    def names(self) -> list[str]:
        """All baselines."""
        return [*self.models, *([LATE_FUSION] if self.fused else [])]

    def logits(self, spectra: np.ndarray, covariates: np.ndarray) -> dict[str, Tensor]:
        """Name -> logits [N, C] or [N, T], or a regression's values in the targets' units.

        ``spectra`` are mean transformed ones, [N, L]; ``covariates`` are encoded, [N, D].
        """
        inputs = {"spectra": spectra, "covariates": covariates}
        found = {
            name: self._as_logits(model.predict(inputs[model.recipe.modality]))
            for name, model in self.models.items()
        }
        if self.fused:
            found[LATE_FUSION] = torch.stack([found[name] for name in self.fused]).mean(dim=0)
        return found

    def _as_logits(self, scores: np.ndarray) -> Tensor:
        found = torch.from_numpy(np.ascontiguousarray(scores, dtype=np.float64))
        if self.task == "regression":
            return found if self.scaler is None else self.scaler.restore(found)
        if self.task == "multilabel":
            return torch.logit(found, eps=SMALLEST)
        return found.clamp_min(SMALLEST).log()


def fit_baselines(
    data: Data,
    settings: BaselinesConfig,
    metric: str,
    seed: int,
    fused: Sequence[str] | None = None,
    started: Iterator[ClassicalModel] | None = None,
) -> Baselines:
    """Fit the configured baselines, on all cores, or wait for those that were ``started``.

    ``metric`` chooses the members of late fusion on the validation set, unless ``fused`` has them.
    ``started`` is from :func:`start_baselines` with the same arguments.
    """
    names, fuse = choose_names(data, settings.models)
    samples = len(data.draw(settings.max_samples, seed))
    if started is None:
        calls = _calls(data, settings, seed)
        # One thread per model: BLAS and OpenMP would start as many as there are cores in each.
        with threadpool_limits(1):
            started = iter(Parallel(cpu_count(), backend="threading")(calls))
    drawn = samples if samples < len(data.datasets["train"]) else None
    by_name = dict(zip(names, started, strict=True))
    found = Baselines(data.cohort.task, by_name, fused or (), data.scaler, drawn)
    if not fuse or fused is not None:
        return found
    best: dict[str, str] = {}
    for name in ranked(model_losses(baseline_outputs(found, data, "val"), metric)):
        best.setdefault(by_name[name].recipe.modality, name)
    return replace(found, fused=[best["spectra"], best["covariates"]])


def start_baselines(
    data: Data, settings: BaselinesConfig, seed: int
) -> Generator[ClassicalModel, None, None]:
    """Start to fit the baselines in processes of their own, on all cores but one."""
    with parallel_config("loky", inner_max_num_threads=1):
        parallel = Parallel(max(FEWEST_PROCESSES, cpu_count() - 1), return_as="generator")
        found: Generator[ClassicalModel, None, None] = parallel(_calls(data, settings, seed))
    return found


def stop_baselines(started: Generator[ClassicalModel, None, None]) -> None:
    """End fits that nobody waits for any more."""
    with warnings.catch_warnings():  # joblib's, that it would be better not to have begun them
        warnings.simplefilter("ignore", UserWarning)
        started.close()


def _calls(data: Data, settings: BaselinesConfig, seed: int) -> list[Any]:
    """One call of :func:`models.classical.fit_model` per baseline, for joblib."""
    names, _ = choose_names(data, settings.models)
    train, rows = data.datasets["train"], data.draw(settings.max_samples, seed)
    groups, task = data.cohort.groups[data.trained][rows], data.cohort.task
    modality = {name: _recipes(task)[name].modality for name in names}
    inputs = {"covariates": train.tabular[rows]}
    if "spectra" in modality.values():
        inputs["spectra"] = train.mean_scans(rows)
    targets = train.targets[rows]
    if task in CLASSES and len(np.unique(targets)) < len(np.unique(train.targets)):
        raise UsageError(
            f"baselines.max_samples: the {len(rows)} samples that were drawn lack a class"
        )
    return [
        delayed(fit_model)(name, task, seed, inputs[modality[name]], targets, groups)
        for name in names
    ]


def choose_names(data: Data, wanted: Sequence[str] = ()) -> tuple[list[str], bool]:
    """The single models, all that fit if none is ``wanted``, and whether two are fused."""
    spectra, covariates = data.cohort.has_spectra, data.tab_dim > 0
    has = {"spectra": spectra, "covariates": covariates}
    fitting = [n for n, recipe in _recipes(data.cohort.task).items() if has[recipe.modality]]
    fusible = [LATE_FUSION] if spectra and covariates else []
    present = " and ".join(name for name, there in has.items() if there)
    for name in wanted:
        if name not in (*fitting, *fusible):
            raise UsageError(
                f"baselines.models: '{name}' does not fit a {data.cohort.task} task "
                f"{f'on {present}' if present else 'without spectra and covariates'}"
                f"{nearest(name, [*fitting, *fusible])}"
            )
    singles = [name for name in fitting if not wanted or name in wanted]
    if wanted == [LATE_FUSION]:
        singles = fitting
    fuse = bool(fusible) and (not wanted or LATE_FUSION in wanted)
    modalities = {_recipes(data.cohort.task)[name].modality for name in singles}
    if fuse and wanted and len(modalities) < 2:
        raise UsageError(
            "baselines.models: late_fusion takes one model of spectra and one of covariates"
        )
    return singles, fuse


def _recipes(task: str) -> Mapping[str, Recipe]:
    return REGRESSORS if task == "regression" else CLASSIFIERS


def baseline_outputs(baselines: Baselines, data: Data, subset: str) -> dict[str, EpochOutputs]:
    """Outputs of each baseline on a subset, in the cohort's order."""
    dataset = data.datasets[subset]
    target = torch.from_numpy(dataset.targets)
    if data.scaler is not None:
        target = data.scaler.restore(target)
    read = any(model.recipe.modality == "spectra" for model in baselines.models.values())
    spectra = dataset.mean_scans() if read else np.empty((len(dataset), 0), dtype=np.float32)
    targets = data.cohort.class_names if baselines.task == "regression" else ()
    return {
        name: EpochOutputs(
            logits, target, dataset.sample_ids, {}, task=baselines.task, targets=targets
        )
        for name, logits in baselines.logits(spectra, dataset.tabular).items()
    }
