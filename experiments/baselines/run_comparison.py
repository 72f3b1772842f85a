"""The baselines of a run: fitted, and compared with its network."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from experiments.baselines.fit import Baselines, baseline_outputs, fit_baselines
from experiments.baselines.leaderboard import (
    Leaderboard,
    compare_with_baselines,
    comparison_metric,
)

if TYPE_CHECKING:
    from engine.metrics import EpochOutputs
    from experiments.builders import Data
    from experiments.config import Config
    from models.classical import ClassicalModel


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
    begun = started.get(data.fitted_on)
    baselines = fit_baselines(data, settings, metric, seed, started=begun)
    outputs = {"val": baseline_outputs(baselines, data, "val")}
    tested = data if refitted is None else refitted
    if refitted is not None:
        fused, begun = baselines.fused, started.get(refitted.fitted_on)
        baselines = fit_baselines(refitted, settings, metric, seed, fused, begun)
    outputs["test"] = baseline_outputs(baselines, tested, "test")
    groups = data.groups_of(network["test"].sample_id)
    board = compare_with_baselines(
        config, network, outputs, groups, baselines.drawn, refitted is not None
    )
    return baselines, board, outputs
