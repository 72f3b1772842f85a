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


def work(folder: Path) -> dict[str, Any]:
    """Buffers, offsets, and random numbers thereafter."""
    cohort = folder / "fitted" / "cohort"

    def simulate() -> None:
        simulate_cohort(cohort, 3, n_samples=40, spec_len=64, max_scans=2)

    broadcast_from_main(simulate)
    model = {"name": "pca_mlp", "params": {"components": 4}, "linear_path": True, "members": 2}
    config = check_config(
        {
            "data": {"root": str(cohort), "labels": {"control": 0, "case": 1}},
            "model": model,
            "baselines": {"enabled": False},
        }
    )
    manual_seed(config.seed)
    data = build_data(config)
    built, _ = build_model_and_loss(config, data, torch.device("cpu"))
    return {
        "buffers": {name: buffer.clone() for name, buffer in built.named_buffers()},
        "offset": torch.from_numpy(data.datasets["train"].offset),
        "random": torch.rand(3),
    }
