"""The network beside its baselines: figures, the paired difference from the best, the verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from datasets.summaries import WithSummary, html_table
from engine.metrics import UNDEFINED, EpochOutputs, better_when, metric_value
from engine.reporting import figure_text, with_bounds
from engine.statistics import (
    FEWEST_GROUPS,
    TOO_FEW,
    Interval,
    bootstrap_differences,
    bootstrap_intervals,
    delong_test,
    groups_of_rarest,
)
from experiments.baselines.choice import (
    BEATS,
    LOSES,
    OPEN,
    UNTESTED,
    comparison_metric,
    model_losses,
    ranked,
)
from experiments.baselines.fit import Baselines, baseline_outputs, fit_baselines

if TYPE_CHECKING:
    from experiments.builders import Data
    from experiments.config import Config
    from models.classical import ClassicalModel


@dataclass(frozen=True)
class Entry:
    """A model's figures: its chosen metric, and ``val`` and ``test`` -> metric -> value."""

    name: str
    val: float
    test: Interval
    metrics: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, repr=False)
class Leaderboard(WithSummary):
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

    def summary(self) -> dict[str, object]:
        """The metric, and the network beside the best baseline."""
        both = {entry.name: figure_text(entry.test.value) for entry in (self.network, self.best)}
        return {"metric": self.metric, **both, "outcome": self.outcome}

    def _repr_html_(self) -> str:
        rows = [
            (entry.name, figure_text(entry.val), with_bounds(entry.test))
            for entry in (self.network, *self.baselines)
        ]
        return html_table(f"Leaderboard, {self.metric}", rows, ("model", "validation", "test"))

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

    order = ranked(model_losses(baselines["val"], metric))
    entries = [
        entry(n, {subset: baselines[subset][n] for subset in ("val", "test")}) for n in order
    ]
    best, p_value = baselines["test"][order[0]], UNDEFINED
    # Without what only the network has, both are compared by the same rule.
    pair = best, replace(test, custom={}, of_samples={})
    difference = paired_difference(*pair, groups, metric, resamples, seed)
    if delong_fits(metric, test, groups):
        p_value = delong_test(test.scores[:, 1], best.scores[:, 1], test.target).p_value
    ours = entry(config.model.name, {subset: network[subset] for subset in ("val", "test")})
    return Leaderboard(metric, ours, entries, difference, p_value, drawn, refitted)


def paired_difference(
    first: EpochOutputs,
    second: EpochOutputs,
    groups: Sequence[str],
    metric: str,
    resamples: int,
    seed: int,
) -> Interval:
    """The second model's metric minus the first's, with an interval if there are resamples."""
    if not resamples:
        return Interval(metric_value(metric, second) - metric_value(metric, first))
    pair = [first, second]
    return bootstrap_differences(pair, groups, [metric], resamples, seed=seed)[0][metric]


def delong_fits(metric: str, outputs: EpochOutputs, groups: Sequence[str]) -> bool:
    """Whether DeLong's test applies: AUROC, two classes, independent samples, enough of each."""
    if metric != "auroc" or outputs.task != "binary" or len(set(groups)) < len(groups):
        return False
    rarest = groups_of_rarest(metric, outputs, groups)
    return rarest is not None and rarest >= FEWEST_GROUPS


def compare_run(
    config: Config,
    data: Data,
    network: Mapping[str, EpochOutputs],
    refitted: Data | None = None,
    started: Mapping[Sequence[str], Iterator[ClassicalModel]] | None = None,
) -> tuple[Baselines, Leaderboard, dict[str, dict[str, EpochOutputs]]]:
    """Fit the configured baselines to a run's data, and compare its network with them.

    Returns also the baselines' outputs: ``val`` and ``test`` -> name -> outputs. With ``refitted``
    data the baselines are chosen as without, then fitted anew to these as the network is, and
    tested so. ``started`` are fits that began before, by the ``fitted_on`` of their data.
    """
    metric = comparison_metric(config, data.cohort.task)
    settings, seed, started = config.baselines, config.seed, started or {}
    baselines = fit_baselines(data, settings, metric, seed, None, started.get(data.fitted_on))
    outputs = {"val": baseline_outputs(baselines, data, "val")}
    if refitted is not None:
        fused, begun = baselines.fused, started.get(refitted.fitted_on)
        baselines = fit_baselines(refitted, settings, metric, seed, fused, begun)
    outputs["test"] = baseline_outputs(baselines, refitted or data, "test")
    groups, again = data.groups_of(network["test"].sample_id), refitted is not None
    board = compare_with_baselines(config, network, outputs, groups, baselines.drawn, again)
    return baselines, board, outputs
