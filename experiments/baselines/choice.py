"""The metric, the order and the verdicts by which models are compared."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import pandas as pd

from engine.metrics import TASKS, EpochOutputs, better_when, metric_value

if TYPE_CHECKING:
    from experiments.config import Config

BEATS, LOSES, OPEN, UNTESTED = "beats", "does_not_beat", "no_difference", "untested"


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


def model_losses(outputs: Mapping[str, EpochOutputs], metric: str) -> pd.DataFrame:
    """One row per model: the metric and, for ties, log loss or r2; smaller is better."""

    def loss(name: str, of: EpochOutputs) -> float:
        value = metric_value(name, of)
        found = value if better_when(name) == "min" else -value
        return math.inf if math.isnan(found) else found

    task = next(iter(outputs.values())).task
    by = [metric, "r2" if task == "regression" else "log_loss"]
    rows = {model: [loss(name, of) for name in by] for model, of in outputs.items()}
    return pd.DataFrame(rows, index=["metric", "tie"]).T


def ranked(losses: pd.DataFrame) -> list[str]:
    """Names of models from the best on; an undefined value is the worst."""
    return list(losses.sort_values(["metric", "tie"], kind="stable").index)
