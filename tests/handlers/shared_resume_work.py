"""What processes do that continue a run: their own, and one that another number of them began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from engine import EpochMetrics, Phase, Trainer, TrainEvents
from engine.checkpointing import load_checkpoint, save_checkpoint
from engine.distributed import barrier, is_main_process, world_size
from engine.losses import CrossEntropy
from engine.optim import build_optimizer
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.distributed_training import DistributedTraining
from handlers.ema import EMA
from handlers.gradient_norm import GradientNorm
from handlers.lr_schedule import LRSchedule
from handlers.nan_guard import NaNGuard
from handlers.progress import Progress
from handlers.run_log import RunLog
from handlers.throughput import Throughput
from tests.shared_problem import SharedLoader, build_model, weights_of

EPOCHS = 4
# Of ten batches that two processes share: within the second epoch, and at its end.
WITHIN, AT_END = 7, 10
SAMPLES, BATCH = 38, 4


class CutError(Exception):
    """The run was cut off here."""


def build(run_dir: Path, dropout: float) -> Trainer:
    """A trainer with whatever has a state."""
    run_dir.mkdir(parents=True, exist_ok=True)
    model = build_model(dropout=dropout)
    optimizer = build_optimizer(model, "adamw", lr=0.01)
    trainer = Trainer(model, optimizer, CrossEntropy(), run_dir=run_dir)
    measured = EpochMetrics(prefix="train/")
    trainer.provide_metrics(*measured.metric_names())
    trainer.attach(
        DistributedTraining(),
        Checkpoint("train/loss", "min", folder=run_dir / "checkpoints"),
        RunLog(),
        Progress(),
        Accumulation(steps=2),
        NaNGuard(),
        GradientNorm(),
        EMA(decay=0.5),
        LRSchedule("cosine", warmup_steps=2),
        Throughput(),
    )
    measured.attach(trainer)
    return trainer


def fit(trainer: Trainer, joint: int | None = None) -> dict[str, Any]:
    """Train to the end; what came of it, and what was said."""
    notices: list[dict[str, Any]] = []
    rates: list[float] = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(dict(t.state.notice)))
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY, lambda t: rates.append(t.optimizer.param_groups[0]["lr"])
    )
    trainer.fit(SharedLoader(SAMPLES, BATCH, joint), EPOCHS)
    metrics = {k: v for k, v in trainer.state.metrics.items() if not k.startswith("time/")}
    return {
        "weights": weights_of(trainer.model),
        "metrics": metrics,
        "iteration": trainer.state.iteration,
        "steps": trainer.state.optimizer_step,
        "rates": rates,
        "notices": notices,
        "drawn": torch.rand(2),
    }


def cut_at(iteration: int, run_dir: Path, file: Path, dropout: float) -> None:
    """Train up to an iteration, save, and leave."""
    trainer = build(run_dir, dropout)
    at_end = iteration % len(SharedLoader(SAMPLES, BATCH)) == 0
    event = Events.EPOCH_COMPLETED if at_end else Events.ITERATION_COMPLETED

    @trainer.on(event, phase=Phase.REPORT)
    def leave(trainer: Trainer) -> None:
        if trainer.state.iteration == iteration:
            states = trainer.capture()
            if is_main_process():
                save_checkpoint(file, states)
            raise CutError

    try:
        fit(trainer)
    except CutError:
        barrier()


def resume(file: Path, run_dir: Path, dropout: float, joint: int | None = None) -> dict[str, Any]:
    """Continue from a checkpoint to the end."""
    trainer = build(run_dir, dropout)
    trainer.restore(load_checkpoint(file)["states"])
    return {"restored": weights_of(trainer.model), **fit(trainer, joint)}


def work(folder: Path) -> dict[str, Any]:
    """Two processes train and are cut off; any number continues what lies in the folder."""
    found: dict[str, Any] = {}
    own = folder / f"processes-{world_size()}"
    if world_size() == 2:
        found["straight"] = fit(build(own / "straight", dropout=0.3))
        found["plain"] = fit(build(own / "plain", dropout=0.0))
        cut_at(WITHIN, own / "a", folder / "within.pt", dropout=0.3)
        cut_at(AT_END, own / "b", folder / "end.pt", dropout=0.3)
        cut_at(WITHIN, own / "c", folder / "plain-within.pt", dropout=0.0)
        cut_at(AT_END, own / "d", folder / "plain-end.pt", dropout=0.0)
        found["own_within"] = resume(folder / "within.pt", own / "a", 0.3)
        found["own_end"] = resume(folder / "end.pt", own / "b", 0.3)
    found["within"] = resume(folder / "plain-within.pt", own / "e", 0.0)
    found["end"] = resume(folder / "plain-end.pt", own / "f", 0.0)
    found["dropout"] = resume(folder / "end.pt", own / "g", 0.3)
    return found
