"""The training loop: events, steps, trainer, evaluator, losses, metrics, optimisers."""

from datasets.errors import UsageError
from engine.evaluator import Evaluator
from engine.events import OrderedEngine, Phase, TrainEvents, in_phase
from engine.losses import LOSSES
from engine.metrics import METRICS, TASKS, EpochMetrics, EpochOutputs
from engine.optim import OPTIMIZERS, build_optimizer
from engine.trainer import Trainer

__all__ = [
    "LOSSES",
    "METRICS",
    "OPTIMIZERS",
    "TASKS",
    "EpochMetrics",
    "EpochOutputs",
    "Evaluator",
    "OrderedEngine",
    "Phase",
    "TrainEvents",
    "Trainer",
    "UsageError",
    "build_optimizer",
    "in_phase",
]
