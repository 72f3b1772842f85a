"""The network beside its baselines: figures, the paired difference from the best, the verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from engine.metrics import UNDEFINED, EpochOutputs, better_when, metric_value
from engine.statistics import (
    FEWEST_GROUPS,
    TOO_FEW,
    Interval,
    bootstrap_differences,
    bootstrap_intervals,
    delong_test,
    groups_of_rarest,
)
from experiments.baselines.choice import BEATS, LOSES, OPEN, UNTESTED, comparison_metric, ranked

if TYPE_CHECKING:
    from experiments.config import Config


@dataclass(frozen=True)
class Entry:
    """A model's figures: its chosen metric, and ``val`` and ``test`` -> metric -> value."""

    name: str
    val: float
    test: Interval
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True)
class Leaderboard:
    """The network and the baselines on the same split, from the best on the validation set on.

    ``difference`` is of ``metric`` on the test set, the network's minus the best baseline's, with
    its paired interval; ``p_value`` is DeLong's, where it applies. ``drawn`` is the number of
    training samples that the baselines were fitted to, if not all. ``refitted``: all were fitted
    anew to the training and validation sets before the test.
    """

    metric: str
    network: Entry
    baselines: Sequence[Entry]
    difference: Interval
    p_value: float = UNDEFINED
    drawn: int | None = None
    refitted: bool = False

    @property
    def best(self) -> Entry:
        """The best baseline on the validation set."""
        return self.baselines[0]

    @property
    def outcome(self) -> str:
        """``beats``, ``does_not_beat`` or ``no_difference``, by the interval.

        Without one ``too_few`` (samples), or ``untested``: the test set is one group, or no
        resamples were asked for.
        """
        low, high = self.difference.low, self.difference.high
        if math.isnan(low):
            return TOO_FEW if self.difference.method == TOO_FEW else UNTESTED
        if better_when(self.metric) == "min":
            low, high = -high, -low
        return BEATS if low > 0 else LOSES if high < 0 else OPEN

    def as_plain(self) -> dict[str, Any]:
        """Plain types, as ``metrics.json`` holds them."""
        return {
            "metric": self.metric,
            "outcome": self.outcome,
            "best": self.best.name,
            "difference": self.difference.value,
            "interval": [self.difference.low, self.difference.high],
            "p_value": self.p_value,
            "drawn": self.drawn,
            "models": {
                entry.name: {
                    **{subset: dict(found) for subset, found in entry.metrics.items()},
                    "interval": [entry.test.low, entry.test.high],
                }
                for entry in self.baselines
            },
        }


def compare_with_baselines(
    config: Config,
    network: Mapping[str, EpochOutputs],
    baselines: Mapping[str, Mapping[str, EpochOutputs]],
    groups: Sequence[str],
    drawn: int | None = None,
    refitted: bool = False,
) -> Leaderboard:
    """Compare a network with its baselines, the best of which is chosen on the validation set.

    ``network`` has ``val`` and ``test`` -> outputs in the cohort's order, ``baselines`` likewise by
    name; ``groups`` are of the test samples.
    """
    test = network["test"]
    metric = comparison_metric(config, test.task)
    resamples, seed = config.report.resamples, config.seed
    names = [n for n in config.metric_names if n not in test.custom and n not in test.of_samples]

    def entry(name: str, of: Mapping[str, EpochOutputs]) -> Entry:
        whole = Interval(metric_value(metric, of["test"]))
        if resamples:
            whole = bootstrap_intervals(of["test"], groups, [metric], resamples, seed=seed)[metric]
        values = {
            subset: {n: metric_value(n, outputs) for n in names} for subset, outputs in of.items()
        }
        return Entry(name, metric_value(metric, of["val"]), whole, values)

    order = ranked(baselines["val"], metric)
    entries = [
        entry(n, {subset: baselines[subset][n] for subset in ("val", "test")}) for n in order
    ]
    best = baselines["test"][order[0]]
    if resamples:
        # Without what only the network has, both are compared by the same rule.
        models = [best, replace(test, custom={}, of_samples={})]
        difference = bootstrap_differences(models, groups, [metric], resamples, seed=seed)[0][
            metric
        ]
    else:
        difference = Interval(metric_value(metric, test) - metric_value(metric, best))
    return Leaderboard(
        metric,
        entry(config.model.name, {subset: network[subset] for subset in ("val", "test")}),
        entries,
        difference,
        _p_value(metric, test, best, groups),
        drawn,
        refitted,
    )


def _p_value(
    metric: str, network: EpochOutputs, best: EpochOutputs, groups: Sequence[str]
) -> float:
    """DeLong's, which takes independent samples and enough of each class."""
    rarest = groups_of_rarest(metric, network, groups)
    independent = len(set(groups)) == len(groups)
    if metric != "auroc" or network.task != "binary" or not independent:
        return UNDEFINED
    if rarest is None or rarest < FEWEST_GROUPS:
        return UNDEFINED
    return delong_test(network.scores[:, 1], best.scores[:, 1], network.target).p_value
