"""What a user of the facade says that things are called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from datasets.cohort import UNNAMED_AXIS
from datasets.errors import UsageError
from engine.metrics import EpochOutputs

KINDS = {"binary": "class", "multiclass": "class", "multilabel": "label", "regression": "target"}


@dataclass(frozen=True)
class Names:
    """What things are called on the pages; None where only their numbers are known.

    Attributes:
        classes: C classes, labels or targets.
        covariates: D covariates.
        axis: The place of each point of a scan, [L].
        axis_name: What the places are.
    """

    classes: Sequence[str] | None = None
    covariates: Sequence[str] | None = None
    axis: np.ndarray | None = None
    axis_name: str = UNNAMED_AXIS

    def check(self, outputs: int, batch: Any) -> None:
        """Refuse names that are not as many as what they name, and outputs of one name.

        Args:
            outputs: Of the model.
            batch: One of those that the pages are made of.

        Raises:
            UsageError: Says how many there are and how many are needed.
        """
        for name, values, needed in (
            ("class_names", self.classes, outputs),
            ("covariate_names", self.covariates, batch.tabular.shape[1]),
            ("axis", self.axis, batch.spectra.shape[2]),
        ):
            if values is not None and len(values) != needed:
                raise UsageError(f"{name}: {len(values)} given, but there are {needed}")
        classes = [] if self.classes is None else [str(name) for name in self.classes]
        twice = [name for name in classes if classes.count(name) > 1]
        if twice:
            raise UsageError(f"class_names: '{twice[0]}' is given twice")

    def of_outputs(self, outputs: EpochOutputs) -> list[str]:
        """A name for each output."""
        return self.of_task(outputs.task, outputs.logits.shape[1])

    def of_task(self, task: str, outputs: int) -> list[str]:
        """A name for each of a task's outputs."""
        if self.classes is not None:
            return [str(name) for name in self.classes]
        return [f"{KINDS[task]} {n}" for n in range(outputs)]

    def of_targets(self, task: str, outputs: int) -> list[str]:
        """A name for each of a regression's targets; none of another task."""
        return self.of_task(task, outputs) if task == "regression" else []
