"""A trained model, loaded from what a run has left, that predicts new samples."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datasets.errors import CohortError
from experiments.prediction.cohort_checks import Demands, check_cohort
from experiments.prediction.model_files import ModelFiles, find_models
from experiments.prediction.predictions import Predictions
from experiments.prediction.predictor import BaselinePredictor, NetworkPredictor
from experiments.run_files import RunFile

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from engine.metrics import EpochOutputs
    from experiments.prediction.fitted import Fitted, NewCohort
    from experiments.prediction.predictor import Progress

# Samples whose predictions are in memory at once. A test set of no more is predicted in the batches
# that it was tested in.
BLOCK = 2**16
# Probabilities of 0 and 1 have no logarithm.
SMALLEST = 1e-12


@dataclass(frozen=True)
class LoadedModel:
    """A trained network, a fitted baseline, or several seeds of a network.

    The probabilities of several seeds are averaged. ``decided`` are thresholds and calibration, by
    :func:`read_decisions`; ``files`` are those of the first predictor.
    """

    files: ModelFiles
    predictors: Sequence[NetworkPredictor | BaselinePredictor]
    decided: Mapping[str, Any]

    @property
    def where(self) -> Path:
        """The folder or package of the model, of several seeds the one that holds them."""
        own = self.files.where
        return own if len(self.predictors) == 1 else own.parent

    @property
    def temperature(self) -> float | None:
        """Divides the logits to calibrate them; None where the model has none."""
        found = self.decided.get("calibration")
        return found and float(found["temperature"])

    @cached_property
    def thresholds(self) -> dict[str, float]:
        """Of the positive class, each class against the rest, or each label; else empty."""
        points = self.decided.get("thresholds") or {}
        found = {name: own[0]["threshold"] for name, own in points.items()}
        known = {name: float(value) for name, value in found.items() if value is not None}
        return known if len(known) == len(found) else {}

    @property
    def fitted(self) -> Fitted:
        """What was fitted beside the model, and its settings."""
        return self.predictors[0].fitted

    @property
    def task(self) -> str:
        """A key of ``engine.metrics.TASKS``."""
        return self.fitted.task

    @property
    def class_names(self) -> list[str]:
        """Of classes, labels or values."""
        return self.fitted.class_names

    def check(
        self, cohort: str | Path | Cohort, impute: bool = False, ignore_labels: bool = False
    ) -> NewCohort:
        """Read a cohort's folder and check that the model can predict it; else CohortError.

        ``impute`` allows missing columns and unknown categories; ``ignore_labels`` reads no
        targets.
        """
        first = self.predictors[0]
        demands = Demands(first.reads, first.does_without, impute, ignore_labels)
        return check_cohort(cohort, self.fitted, demands)

    def predict(
        self, cohort: str | Path | Cohort, impute: bool = False, ignore_labels: bool = False
    ) -> Predictions:
        """Predict all samples of a cohort; arguments as of :meth:`check`."""
        return Predictions.joined(list(self.stream(self.check(cohort, impute, ignore_labels))))

    def stream(self, new: NewCohort, progress: Progress | None = None) -> Iterator[Predictions]:
        """Predict a checked cohort in its order, in blocks of at most ``BLOCK`` samples."""
        samples = len(new.cohort.sample_ids)
        for start in range(0, samples, BLOCK):
            rows = np.arange(start, min(start + BLOCK, samples))
            try:
                each = [each.outputs(new, rows, progress) for each in self.predictors]
            except CohortError:
                new.cohort.check_finite()  # names the scan, where that is the reason
                raise
            yield Predictions(
                sample_ids=each[0].sample_id,
                logits=_mean_logits(each),
                task=self.task,
                class_names=self.class_names,
                groups=new.cohort.groups[rows],
                targets=None if new.targets is None else new.targets[rows],
                temperature=self.temperature,
                thresholds=self.thresholds,
                notes=new.notes,
            )


def load_model(source: str | Path, device: str | None = None) -> LoadedModel:
    """Load a model from a run, its package (zip), or the folder of a cross-validation.

    ``device`` is the run's own if None. UsageError where there is no trained model.

    Example:
        >>> predictions = load_model("runs/hcc").predict("new_patients")  # doctest: +SKIP
        >>> predictions.table().to_csv("predictions.csv", index=False)  # doctest: +SKIP
    """
    models = find_models(source)
    predictors = [
        BaselinePredictor(files)
        if files.read(RunFile.WEIGHTS) is None
        else NetworkPredictor(files, device)
        for files in models
    ]
    # Of several seeds the thresholds and the temperature are those of their mean.
    together = models[0] if len(models) == 1 else ModelFiles(models[0].where.parent)
    return LoadedModel(models[0], predictors, read_decisions(together))


def read_decisions(files: ModelFiles) -> Mapping[str, Any]:
    """What was decided on samples that a model was not trained on: thresholds and calibration.

    A run's are of its validation set, a recommended model's of the cross-validation's test folds.
    """
    found = files.read_json(RunFile.DECISIONS)
    return found or files.read_json(RunFile.METRICS).get("test") or {}


def _mean_logits(each: Sequence[EpochOutputs]) -> Tensor:
    """Logits of the mean probabilities, or mean values."""
    if len(each) == 1:
        return each[0].logits
    mean = torch.stack([outputs.scores for outputs in each]).mean(dim=0)
    if each[0].task == "regression":
        return mean
    return torch.logit(mean, eps=SMALLEST) if each[0].task == "multilabel" else mean.log()
