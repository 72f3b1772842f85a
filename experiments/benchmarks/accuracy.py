"""What a precision costs in accuracy: the same runs in each, on the embedded cohort."""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.config import load_config
from experiments.runs import Experiment

CONFIG = "tft_baseline"
METRIC = "auroc"
SIDES = ("val", "test")
LARGEST_DIFFERENCE = 0.01


def compare_precisions(
    precisions: Sequence[str], seeds: Sequence[int], epochs: int | None, device: str
) -> list[dict[str, Any]]:
    """Train ``tft_baseline`` once for each precision and seed.

    Args:
        precisions: The first is what the others are held against.
        seeds: Of the runs; all share the cohort, each has its split and its weights.
        epochs: At most; None for the configuration's own.
        device: Where.

    Returns:
        A row a run: ``seed``, ``precision``, ``val`` and ``test`` (AUROC), and how much higher
        both are than in the first precision.
    """
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as folder:
        for seed in seeds:
            first: dict[str, Any] | None = None
            for precision in precisions:
                row: dict[str, Any] = {"seed": seed, "precision": precision}
                row.update(_train(precision, seed, epochs, device, Path(folder)))
                first = first or row
                row.update({f"{side}_difference": row[side] - first[side] for side in SIDES})
                rows.append(row)
                print(f"{row}", file=sys.stderr, flush=True)
    return rows


def _train(
    precision: str, seed: int, epochs: int | None, device: str, folder: Path
) -> dict[str, float]:
    settings = {
        "seed": seed,
        "trainer.precision": precision,
        "trainer.device": device,
        "runs_dir": folder,
        "exp_name": f"{precision}-s{seed}",
        # Nothing that a person would read is asked for.
        "report.enabled": "false",
        "report.resamples": 0,
        "audit.enabled": "false",
        "baselines.enabled": "false",
    }
    if epochs is not None:
        settings["trainer.max_epochs"] = epochs
    config = load_config(CONFIG, [(key, str(value)) for key, value in settings.items()])
    experiment = Experiment(config)
    with contextlib.redirect_stdout(io.StringIO()):
        results = experiment.run()
    return {
        "val": results["val"][METRIC],
        "test": results["test"][METRIC],
        "epochs": float(experiment.trainer.state.epoch),
    }


def print_accuracy(rows: Sequence[dict[str, Any]]) -> None:
    """The table, and whether all differences are within what is wanted."""
    heads = ("seed", "precision", "epochs", "val", "to first", "test", "to first")
    print("".join(f"{head:>11}" for head in heads))
    for row in rows:
        print(
            f"{row['seed']:>11}{row['precision']:>11}{row['epochs']:>11.0f}{row['val']:>11.4f}"
            f"{row['val_difference']:>+11.4f}{row['test']:>11.4f}{row['test_difference']:>+11.4f}"
        )
    largest = max(abs(row[f"{side}_difference"]) for row in rows for side in SIDES)
    word = "within" if largest <= LARGEST_DIFFERENCE else "MORE than"
    print(f"largest difference {largest:.4f}: {word} {LARGEST_DIFFERENCE:g}")
