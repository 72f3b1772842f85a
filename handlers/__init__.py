"""Independent handlers, and the short names by which a configuration finds them."""

from typing import Any

from handlers.accumulation import Accumulation
from handlers.attribution import Attribution
from handlers.checkpoint import Checkpoint
from handlers.compile import Compile
from handlers.distributed_training import DistributedTraining
from handlers.early_stopping import EarlyStopping
from handlers.ema import EMA
from handlers.freeze import Freeze
from handlers.graceful_shutdown import GracefulShutdown
from handlers.gradient_clipping import GradientClipping
from handlers.gradient_norm import GradientNorm
from handlers.loss_weights import LossWeights
from handlers.lr_finder import LRFinder
from handlers.lr_schedule import LRSchedule
from handlers.mixed_precision import MixedPrecision
from handlers.mlflow_log import MLflow
from handlers.nan_guard import NaNGuard
from handlers.profiler import Profiler
from handlers.progress import Progress
from handlers.report import Report
from handlers.run_log import RunLog
from handlers.scan_pairs import ScanPairs
from handlers.step_log import StepLog
from handlers.swa import SWA
from handlers.tensorboard_log import TensorBoard
from handlers.throughput import Throughput
from handlers.training_curves import TrainingCurves
from handlers.validation import Validation
from handlers.wandb_log import WandB

HANDLERS: dict[str, Any] = {
    "accumulation": Accumulation,
    "attribution": Attribution,
    "checkpoint": Checkpoint,
    "compile": Compile,
    "distributed_training": DistributedTraining,
    "early_stopping": EarlyStopping,
    "ema": EMA,
    "freeze": Freeze,
    "gradient_clipping": GradientClipping,
    "gradient_norm": GradientNorm,
    "graceful_shutdown": GracefulShutdown,
    "loss_weights": LossWeights,
    "lr_finder": LRFinder,
    "lr_schedule": LRSchedule,
    "mixed_precision": MixedPrecision,
    "mlflow": MLflow,
    "nan_guard": NaNGuard,
    "profiler": Profiler,
    "progress": Progress,
    "report": Report,
    "run_log": RunLog,
    "scan_pairs": ScanPairs,
    "step_log": StepLog,
    "swa": SWA,
    "tensorboard": TensorBoard,
    "throughput": Throughput,
    "training_curves": TrainingCurves,
    "validation": Validation,
    "wandb": WandB,
}

__all__ = ["HANDLERS", *sorted(cls.__name__ for cls in HANDLERS.values())]
