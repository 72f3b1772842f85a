"""Folders of finished runs that were never trained: what they hold is drawn, and quick to write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import torch

from datasets.cohort import Cohort
from datasets.splits import write_splits
from engine.metrics import EpochOutputs, by_target, metric_value
from engine.reporting import write_metrics_json
from engine.statistics import bootstrap_intervals
from experiments.config import check_config, metric_name, set_key
from experiments.run_files import predictions_table, write_config
from tests.experiments.report.made_outputs import NAMES, make_outputs

LABELS: dict[str, Any] = {
    "binary": {"labels": {"control": 0, "case": 1}},
    "multiclass": {"task": "multiclass"},
    "multilabel": {"task": "multilabel", "label": NAMES["multilabel"]},
    "regression": {"task": "regression", "label": NAMES["regression"]},
}
ENVIRONMENT: dict[str, Any] = {
    "commit": "1" * 40,
    "dirty": False,
    "python": "3.11.7",
    "packages": {"torch": "2.13.0", "numpy": "2.4.0"},
    "host": "somewhere",
    "data": {"samples.csv": "a" * 64, "spectra.npy": "b" * 64},
}


def drawn(task: str, seed: int = 0, skill: float = 1.0, samples: int = 40) -> EpochOutputs:
    """Outputs of one truth for all seeds; ``skill`` is how much of it is known."""
    outputs = make_outputs(task, samples)
    noise = torch.randn(outputs.logits.shape, generator=torch.Generator().manual_seed(seed))
    target = outputs.target
    if task == "regression":
        logits = target + noise / skill
    elif task == "multilabel":
        logits = 2 * skill * (target - 0.5) + noise
    else:
        logits = skill * torch.eye(outputs.logits.shape[1])[target] + noise
    return replace(outputs, logits=logits)


def make_run(
    folder: Path,
    outputs: EpochOutputs,
    names: Sequence[str] | None = None,
    groups: Mapping[str, str] | None = None,
    environment: Mapping[str, Any] | None = None,
    best: float = 0.8,
    epochs: int = 4,
    val: Sequence[str] = ("v1", "v2"),
    **settings: Any,
) -> Path:
    """Write what a finished run leaves behind.

    Args:
        folder: Made here.
        outputs: Of its test side.
        names: Of classes, labels or targets.
        groups: Of the samples; each is one of its own if not given.
        environment: Changes to ``ENVIRONMENT``.
        best: The monitored metric of the best epoch.
        epochs: How many were trained.
        val: Samples of the validation side.
        **settings: Dotted keys of the configuration, ``__`` for the dot.
    """
    folder.mkdir(parents=True)
    values: dict[str, Any] = {"exp_name": "made", "data": dict(LABELS[outputs.task])}
    values["report"] = {"resamples": 100}
    for key, value in settings.items():
        set_key(values, key.replace("__", "."), value)
    config = check_config(values)
    names = names or NAMES[outputs.task]
    if outputs.task == "regression":
        outputs = replace(outputs, targets=names)
    asked = [name for name in map(metric_name, config.metrics) if name != "modality_agreement"]
    metrics = by_target(asked, outputs.targets)
    of = [(groups or {}).get(sample, sample) for sample in outputs.sample_id]
    table = predictions_table(outputs, _cohort(outputs, names))
    table.to_csv(folder / "predictions.csv", index=False)
    everyone = [*outputs.sample_id, *val]
    sides = np.array(["test"] * len(outputs.sample_id) + ["val"] * len(val))
    write_splits(folder / "splits.csv", everyone, np.array([*of, *val]), sides)
    (folder / "environment.json").write_text(json.dumps({**ENVIRONMENT, **(environment or {})}))
    (folder / "summary.md").write_text("Model `x` (1,234 parameters), loss `y`\n")
    found = bootstrap_intervals(outputs, of, metrics, 100) if config.report.resamples else {}
    monitor = config.checkpoint.monitor
    assert monitor is not None
    rows: list[dict[str, Any]] = [{"event": "run_started"}]
    for epoch in range(1, epochs + 1):
        place = {"epoch": epoch, "iteration": epoch, "optimizer_step": epoch}
        rows.append({"event": "epoch", **place, "metrics": {monitor: best}, "seconds": 1.5})
    rows.append(
        {
            "event": "test_completed",
            "metrics": {name: metric_value(name, outputs) for name in metrics},
            "intervals": {name: [i.low, i.high] for name, i in found.items()},
            "interval_methods": {name: i.method for name, i in found.items()},
        }
    )
    rows.append({"event": "run_finished"})
    (folder / "log.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    write_metrics_json(rows, folder / "metrics.json", monitor, config.checkpoint.mode or "max")
    write_config(folder, config)
    return folder


def _cohort(outputs: EpochOutputs, names: Sequence[str]) -> Cohort:
    """As much of one as a table of predictions takes."""
    targets = outputs.target.numpy()
    if outputs.task == "multilabel":
        targets = targets.astype(np.int64)
    made = SimpleNamespace(
        class_names=list(names), sample_ids=list(outputs.sample_id), targets=targets
    )
    return cast(Cohort, made)
