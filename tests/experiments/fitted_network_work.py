"""What processes hold of a network that the main process fits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.utils import manual_seed

from datasets.simulation import simulate_cohort
from engine.distributed import broadcast_from_main
from experiments.builders import build_data, build_model_and_loss
from experiments.config import check_config

MODELS: dict[str, dict[str, Any]] = {
    "linear_path": {
        "name": "pca_mlp",
        "params": {"components": 4},
        "linear_path": True,
        "members": 2,
    },
    "ensemble": {
        "name": "ensemble",
        "members": [{"name": "mean_linear"}, {"name": "spectra_extra_trees"}],
    },
}


def work(folder: Path) -> dict[str, Any]:
    """Of each model buffers, offsets, and random numbers thereafter."""
    cohort = folder / "fitted" / "cohort"

    def simulate() -> None:
        simulate_cohort(cohort, 3, n_samples=40, spec_len=64, max_scans=2)

    broadcast_from_main(simulate)
    return {name: _fitted(cohort, model) for name, model in MODELS.items()}


def _fitted(cohort: Path, model: dict[str, Any]) -> dict[str, Any]:
    data = {"root": str(cohort), "labels": {"control": 0, "case": 1}}
    config = check_config({"data": data, "model": model, "baselines": {"enabled": False}})
    manual_seed(config.seed)
    built = build_data(config)
    network, _ = build_model_and_loss(config, built, torch.device("cpu"))
    offset = built.datasets["train"].offset
    return {
        "buffers": {name: buffer.clone() for name, buffer in network.named_buffers()},
        "offset": torch.zeros(0) if offset is None else torch.from_numpy(offset),
        "random": torch.rand(3),
    }
