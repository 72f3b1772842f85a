"""The training loop: events, steps, trainer, evaluator, losses, metrics, optimisers."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.errors import UsageError
    from engine.evaluator import Evaluator
    from engine.events import OrderedEngine, Phase, TrainEvents, in_phase
    from engine.losses import LOSSES
    from engine.metrics import METRICS, TASKS, EpochMetrics, EpochOutputs
    from engine.optim import OPTIMIZERS, build_optimizer
    from engine.trainer import Trainer
else:
    __getattr__ = lazy_exports(__name__, __file__)
