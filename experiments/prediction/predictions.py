"""Predictions of a model for new samples, and the table of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from engine.metrics import CLASSES, TASKS, EpochOutputs
from experiments.run_files import outputs_table

CALIBRATED, DECISION = "calibrated_", "decision"


@dataclass(frozen=True)
class Predictions:
    """What a model predicts of N samples, in the cohort's order.

    ``logits`` are [N, C]; of a regression the values [N, T] in the targets' units, in double
    precision. ``targets``, where the cohort's labels were read, are class numbers int64 [N], labels
    int64 [N, T] or values float64 [N, T]; -1 or NaN of a sample without. ``temperature`` divides
    the logits to calibrate them, and ``thresholds`` are those of the run's decision, for the
    positive class, each class against the rest, or each label; None and empty where the model has
    none. ``notes`` are lines on the cohort.
    """

    sample_ids: list[str]
    logits: Tensor
    task: str
    class_names: list[str]
    groups: np.ndarray
    targets: np.ndarray | None = None
    temperature: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[str] = ()

    def __len__(self) -> int:
        """N."""
        return len(self.sample_ids)

    @cached_property
    def outputs(self) -> EpochOutputs:
        """All samples as outputs of an evaluation; a target that is not known is 0."""
        shape = len(self) if self.task in CLASSES else self.logits.shape
        known = np.zeros(shape) if self.targets is None else np.nan_to_num(self.targets)
        target = torch.from_numpy(np.maximum(known, 0) if self.task != "regression" else known)
        target = target.long() if self.task in CLASSES else target
        names = self.class_names if self.task == "regression" else ()
        return EpochOutputs(self.logits, target, self.sample_ids, {}, self.task, targets=names)

    @cached_property
    def labelled(self) -> np.ndarray:
        """The rows of the samples whose targets are all known."""
        if self.targets is None:
            return np.zeros(0, dtype=np.int64)
        known = np.isfinite(self.targets) & (self.targets >= 0)
        if self.task == "regression":
            known = np.isfinite(self.targets)
        return np.flatnonzero(known if known.ndim == 1 else known.all(axis=1))

    @property
    def labelled_outputs(self) -> EpochOutputs:
        """The outputs of the samples with known targets."""
        return self.outputs.take(self.labelled.tolist())

    @property
    def probabilities(self) -> Tensor:
        """The model's own, [N, C] or [N, T], double; a regression has none."""
        return self.outputs.probabilities

    @cached_property
    def calibrated(self) -> Tensor | None:
        """Probabilities after temperature scaling; None without a temperature."""
        if self.temperature is None:
            return None
        return TASKS[self.task].scores(self.logits.double() / self.temperature)

    @property
    def predictions(self) -> Tensor:
        """The likeliest classes long [N], labels (0 or 1) long [N, T], or values [N, T]."""
        return self.outputs.predictions

    @cached_property
    def decisions(self) -> np.ndarray | None:
        """What the run's thresholds decide: class numbers [N], or labels (0 or 1) [N, T].

        None without a threshold, and of more than two classes, of which each has its own.
        """
        if self.task not in ("binary", "multilabel") or not self.thresholds:
            return None
        scores = self.probabilities.numpy()
        if self.task == "binary":
            decided: np.ndarray = scores[:, 1] >= self.thresholds[self.class_names[1]]
        else:
            decided = scores >= np.array([self.thresholds[name] for name in self.class_names])
        return decided.astype(np.int64)

    def table(self) -> pd.DataFrame:
        """One row per sample: the columns of a run's ``predictions.csv``, and further ones.

        These are ``calibrated_<class>`` and ``decision`` (a class) or ``decision_<label>``, where
        the model has a temperature and thresholds. Targets are there if the labels were read.
        """
        targets = self.targets
        table = outputs_table(self.outputs, self.class_names, targets)
        if targets is not None and self.task == "multilabel" and (targets < 0).any():
            for number, name in enumerate(self.class_names):
                own = targets[:, number]
                table[f"target_{name}"] = pd.Series(own).where(own >= 0, None)
        if self.calibrated is not None:
            for number, name in enumerate(self.class_names):
                table[CALIBRATED + name] = self.calibrated[:, number].numpy()
        if self.decisions is not None and self.task == "binary":
            table[DECISION] = np.array(self.class_names, dtype=object)[self.decisions]
        elif self.decisions is not None:
            for number, name in enumerate(self.class_names):
                table[f"{DECISION}_{name}"] = self.decisions[:, number]
        return table

    @staticmethod
    def joined(parts: Sequence[Predictions]) -> Predictions:
        """The samples of several predictions by one model, one after the other."""
        first = parts[0]
        targets = [part.targets for part in parts if part.targets is not None]
        return replace(
            first,
            sample_ids=[sample for part in parts for sample in part.sample_ids],
            logits=torch.cat([part.logits for part in parts]),
            groups=np.concatenate([part.groups for part in parts]),
            targets=np.concatenate(targets) if targets else None,
        )
