"""What a finished run hands to its exports and reports."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

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
    outputs: dict[str, EpochOutputs]
    weights: dict[str, Tensor]
    epochs: int
    optimizer_steps: int
    parameters: int
