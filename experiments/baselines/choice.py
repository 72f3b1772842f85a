"""The metric, the order and the verdicts by which models are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from engine.metrics import TASKS, EpochOutputs, better_when, metric_value

if TYPE_CHECKING:
    from experiments.config import Config

BEATS, LOSES, OPEN = "beats", "does_not_beat", "no_difference"
UNTESTED = "untested"


def comparison_metric(config: Config, task: str) -> str:
    """The metric that compares models: the monitored one if it suits baselines, else the task's."""
    monitored = str(config.checkpoint.monitor).removeprefix("val/")
    fits = (*TASKS[task].metrics, "balanced_accuracy", "mcc", "brier", "log_loss", "ece")
    suits = monitored in config.metric_names and monitored.partition("[")[0] in fits
    if suits:
        return monitored
    # Errors of several targets have no common unit.
    several = isinstance(config.data.label, list) and len(config.data.label) > 1
    return "r2" if task == "regression" and several else TASKS[task].monitor.removeprefix("val/")


def ranked(outputs: Mapping[str, EpochOutputs], metric: str) -> list[str]:
    """Names of models from the best on; equal values are ordered by log loss, or by r2.

    An undefined value is the worst.
    """

    def worse(name: str, by: str) -> float:
        value = metric_value(by, outputs[name])
        found = value if better_when(by) == "min" else -value
        return math.inf if math.isnan(found) else found

    def key(name: str) -> tuple[float, float]:
        tie = "r2" if outputs[name].task == "regression" else "log_loss"
        return worse(name, metric), worse(name, tie)

    return sorted(outputs, key=key)
