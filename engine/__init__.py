"""The training loop: events, steps, trainer, evaluator, losses, metrics, optimisers."""

from engine.errors import UsageError
from engine.evaluator import Evaluator
from engine.events import OrderedEngine, Phase, TrainEvents, in_phase
from engine.losses import LOSSES
from engine.metrics import METRICS, EpochMetrics, EpochOutputs
from engine.optimisers import OPTIMIZERS, build_optimizer
from engine.tasks import TASKS
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
