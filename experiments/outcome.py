"""What a finished run hands to its exports and reports."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from engine.bootstrap import Interval
from engine.metrics import EpochOutputs
from experiments.build_data import Data
from experiments.config import Config


@dataclass(frozen=True)
class Outcome:
    """A run that was trained, validated and tested.

    Attributes:
        run_dir: Its folder.
        config: Its configuration.
        data: The cohort and its split.
        results: ``val`` and ``test`` -> metric name -> value.
        intervals: Metric name -> its 95% interval on the test side; empty where none are wanted.
        outputs: ``val`` and ``test`` -> logits, targets and sample ids.
        weights: The weights that were tested, by name.
        epochs: Epochs trained.
        optimizer_steps: Optimizer steps taken.
        parameters: Numbers in the model that training can move.
    """

    run_dir: Path
    config: Config
    data: Data
    results: dict[str, dict[str, float]]
    intervals: dict[str, Interval]
    outputs: dict[str, EpochOutputs]
    weights: dict[str, Tensor]
    epochs: int
    optimizer_steps: int
    parameters: int

    def interval_text(self, metric: str) -> str:
        """The bounds of a metric's interval; empty where there are none."""
        interval = self.intervals.get(metric)
        if interval is None or math.isnan(interval.low):
            return ""
        return f"{interval.low:.3f} to {interval.high:.3f}"
