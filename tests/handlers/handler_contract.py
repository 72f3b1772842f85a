"""One set-up for every handler, alone on a trainer."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from engine import EpochMetrics, Evaluator, Trainer, build_optimizer
from engine.checkpointing import load_checkpoint
from experiments.config import construct, find_named, read_yaml
from handlers import HANDLERS
from tests.tiny_problem import TinyLoader, TinyModel

EPOCHS = 4
# As they would stand under `params` in a configuration; the others need none.
PARAMS = {
    "attribution": "{every: 1, steps: 4, window: 2}",
    "checkpoint": "{monitor: train/auroc, save_top_k: 2}",
    "compile": "{backend: aot_eager}",
    "early_stopping": "{monitor: train/loss, mode: min, patience: 3}",
    "ema": "{decay: 0.9}",
    "freeze": "{patterns: [body.0], until_epoch: 4}",
    "gradient_clipping": "{max_norm: 0.1}",
    "loss_weights": "{weights: {main_loss: 1.0, norm_loss: {start: 0.0, end: 0.1, epochs: 4}}}",
    "lr_finder": "{num_iter: 12}",
    "lr_schedule": "{name: plateau, monitor: train/loss, patience: 0, threshold: 9.0}",
    "mixed_precision": "{precision: bf16}",
    "mlflow": "{tracking_uri: 'sqlite:///mlflow.db'}",
    "profiler": "{wait: 1, warmup: 1, active: 2}",
    "pruning": "{storage: 'sqlite:///study.db', monitor: train/auroc, start_epoch: 0}",
    "swa": "{start_epoch: 2}",
    "wandb": "{mode: offline}",
}
NEEDS_PACKAGE = {"mlflow": "mlflow", "pruning": "optuna", "wandb": "wandb"}


class TwoTerms(nn.Module):
    """A loss with named terms, so that a handler can weight them."""

    def forward(self, outputs: dict[str, Tensor], target: Tensor) -> dict[str, Tensor]:
        main = nn.functional.cross_entropy(outputs["logits"].float(), target)
        norm = outputs["embedding"].float().pow(2).mean()
        return {"total_loss": main + 0.01 * norm, "main_loss": main, "norm_loss": norm}


def build(name: str, run_dir: Path, seed: int = 0) -> tuple[Trainer, Any]:
    """A trainer with the handler of that name, made as from a configuration."""
    torch.manual_seed(seed)
    random.seed(seed)
    run_dir.mkdir(parents=True, exist_ok=True)
    model = TinyModel()
    optimizer = build_optimizer(model, "adamw", lr=0.01)
    trainer = Trainer(model, optimizer, TwoTerms(), run_dir=run_dir)
    measured = EpochMetrics(prefix="train/")
    trainer.provide_metrics(*measured.metric_names(["main_loss", "norm_loss"]))
    measured.attach(trainer)
    offered = {
        "evaluator": Evaluator(model, TwoTerms(), EpochMetrics()),
        "loader": TinyLoader(seed=1),
    }
    params = read_yaml(PARAMS.get(name, "{}"), name)
    handler = construct(find_named(name, HANDLERS, "name"), params, "params", offered)
    trainer.attach(handler)
    return trainer, handler


def outcome(trainer: Trainer) -> dict[str, Any]:
    """All states at the end of a run, but for the random streams and what a clock wrote."""
    states = trainer.capture()
    states["trainer"].pop("rng")
    for row in (states["trainer"], *states["trainer"]["history"]):
        row["metrics"] = {k: v for k, v in row["metrics"].items() if not k.startswith("time/")}
    for timed in ("run_log", "throughput", "training_curves", "report", "mlflow", "wandb"):
        states.pop(timed, None)
    return states


def finish(trainer: Trainer, handler: Any) -> dict[str, Any]:
    """Train to the end of the budget and let go of files."""
    try:
        trainer.fit(TinyLoader(), EPOCHS)
    finally:
        if hasattr(handler, "close"):
            handler.close()
    return outcome(trainer)


def continue_runs(folder: Path, names: list[str]) -> None:
    """Restore each run of the folder from its checkpoint, train to its end, save the outcome."""
    for name in names:
        trainer, handler = build(name, folder / name / "cut", seed=99)
        trainer.restore(load_checkpoint(folder / name / "cut.pt")["states"])
        torch.save(finish(trainer, handler), folder / name / "resumed.pt")
