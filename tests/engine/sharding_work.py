"""What processes do that share a model's weights."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import nn

from engine import EpochMetrics, Evaluator, Trainer
from engine.checkpointing import broken_weight, load_checkpoint, save_checkpoint
from engine.distributed import (
    barrier,
    full_state,
    is_main_process,
    rank,
    shard,
    to_local,
    world_size,
)
from engine.losses import CrossEntropy
from engine.optim import build_optimizer
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.compile import Compile
from handlers.distributed_training import DistributedTraining
from handlers.ema import EMA
from handlers.freeze import Freeze
from handlers.gradient_clipping import GradientClipping
from handlers.gradient_norm import GradientNorm
from handlers.loss_weights import LossWeights
from handlers.nan_guard import NaNGuard
from handlers.swa import SWA
from handlers.validation import Validation
from models import MODELS
from tests.handlers.distributed_training_work import BadSample, TwoTerms, refused
from tests.models.small_batch import SPEC_LEN, TAB_DIM, small_model
from tests.shared_problem import SharedLoader, build_model, weights_of

EPOCHS = 3


def build(*handlers: Any, loss: Any = None, run_dir: Path | None = None, seed: int = 0) -> Trainer:
    """A trainer whose model is shared where there are several processes."""
    model = build_model(seed)
    if world_size() > 1:
        shard(model)
    optimizer = build_optimizer(model, "adamw", lr=0.01)
    trainer = Trainer(model, optimizer, loss or CrossEntropy(), run_dir=run_dir)
    measured = EpochMetrics(prefix="train/")
    trainer.provide_metrics(*measured.metric_names())
    trainer.attach(DistributedTraining())
    measured.attach(trainer)
    trainer.attach(*handlers)
    return trainer


def fit(trainer: Trainer, joint: int | None, epochs: int = EPOCHS) -> dict[str, Any]:
    """Train; what came of it, whole, in the first process."""
    trainer.fit(SharedLoader(10, 4, joint), epochs)
    weights = full_state(weights_of(trainer.model))
    metrics = {k: v for k, v in trainer.state.metrics.items() if not k.startswith("time/")}
    return {"weights": weights if is_main_process() else {}, "metrics": metrics}


def everything(joint: int | None) -> dict[str, Any]:
    ema = EMA(decay=0.5)
    loss = TwoTerms()
    trainer = build(
        Accumulation(steps=2),
        GradientClipping(max_norm=0.1),
        GradientNorm(),
        ema,
        LossWeights({"main_loss": 1.0, "norm_loss": "uncertainty"}),
        loss=loss,
    )
    evaluator = Evaluator(trainer.model, loss, EpochMetrics())
    seen = SharedLoader(7, 2, shuffle=False)
    trainer.attach(Validation(evaluator, seen, weights=ema.averaged_weights))
    found = fit(trainer, joint)
    average = full_state(ema.state_dict()["average"])
    return {**found, "average": average if is_main_process() else {}}


def a_bad_step(joint: int | None) -> dict[str, Any]:
    loss = BadSample("s7")
    loss.trainer = trainer = build(NaNGuard(), loss=loss)
    found = fit(trainer, joint)
    del found["metrics"]["train/loss"]
    return found


def a_frozen_part(joint: int | None) -> dict[str, Any]:
    return fit(build(Freeze(["body"], until_epoch=2)), joint)


def a_step_of(name: str) -> dict[str, Any]:
    """One step of a model with a short name, on the same samples in each process."""
    model = small_model(name, dropout=0.0)
    if world_size() > 1:
        shard(model)
    optimizer = build_optimizer(model, "sgd", lr=0.1)
    generator = torch.Generator().manual_seed(0)
    spectra = torch.rand(4, 3, SPEC_LEN, generator=generator)
    mask = torch.tensor([[True] * 3, [True, False, False], [True] * 3, [True, True, False]])
    tabular = torch.rand(4, TAB_DIM, generator=generator)
    outputs = model(spectra, mask, tabular)
    heads = [value for key, value in outputs.items() if "logits" in key]
    torch.stack([head.square().mean() for head in heads]).sum().backward()
    optimizer.step()
    weights = full_state(weights_of(model))
    logits = outputs["logits"].detach()
    return {"logits": logits, "weights": weights if is_main_process() else {}}


def saved_half_way(file: Path, joint: int | None, seed: int = 0) -> None:
    """A checkpoint after one epoch."""
    trainer = build(EMA(decay=0.5), GradientNorm(), seed=seed)
    fit(trainer, joint, epochs=1)
    states = trainer.capture()
    if is_main_process():
        save_checkpoint(file, states)
    barrier()


def continued(file: Path, joint: int | None) -> dict[str, Any]:
    """From such a checkpoint to the end, in a trainer that began otherwise."""
    trainer = build(EMA(decay=0.5), GradientNorm(), seed=5)
    trainer.restore(load_checkpoint(file)["states"])
    return fit(trainer, joint)


def broken(rank_of_nan: int) -> str | None:
    """The message for a model of which one rank's shard holds NaN."""
    model = shard(build_model())
    if rank() == rank_of_nan:
        to_local([model.get_parameter("head.weight")])[0].fill_(float("nan"))
    return broken_weight(model)


def shares(model: nn.Module) -> dict[str, int]:
    """How many numbers this process holds of each parameter."""
    return {name: to_local([p])[0].numel() for name, p in model.named_parameters()}


def work(folder: Path) -> dict[str, Any]:
    """All of it, together; ``alone.pt`` lies in the folder."""
    saved_half_way(folder / "shared.pt", None)
    run_dir = folder / "shared-run"
    checkpoint = Checkpoint("train/loss", "min", folder=run_dir)
    written = fit(build(checkpoint), None)
    return {
        "everything": everything(None),
        "a_bad_step": a_bad_step(None),
        "a_frozen_part": a_frozen_part(None),
        "models": {name: a_step_of(name) for name in MODELS},
        "own": continued(folder / "shared.pt", None),
        "from_alone": continued(folder / "alone.pt", None),
        "written": written,
        "broken": broken(world_size() - 1),
        "shares": shares(build().model),
        "refused": [
            refused(lambda: build(SWA())),
            refused(lambda: build(NaNGuard("rollback"))),
            refused(lambda: build(Compile("graphs"))),
        ],
    }
