"""Independent handlers, and the short names by which a configuration finds them."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
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
else:
    __getattr__ = lazy_exports(__name__, __file__)

HANDLERS = {
    "accumulation": "handlers.accumulation.Accumulation",
    "attribution": "handlers.attribution.Attribution",
    "checkpoint": "handlers.checkpoint.Checkpoint",
    "compile": "handlers.compile.Compile",
    "distributed_training": "handlers.distributed_training.DistributedTraining",
    "early_stopping": "handlers.early_stopping.EarlyStopping",
    "ema": "handlers.ema.EMA",
    "freeze": "handlers.freeze.Freeze",
    "gradient_clipping": "handlers.gradient_clipping.GradientClipping",
    "gradient_norm": "handlers.gradient_norm.GradientNorm",
    "graceful_shutdown": "handlers.graceful_shutdown.GracefulShutdown",
    "loss_weights": "handlers.loss_weights.LossWeights",
    "lr_finder": "handlers.lr_finder.LRFinder",
    "lr_schedule": "handlers.lr_schedule.LRSchedule",
    "mixed_precision": "handlers.mixed_precision.MixedPrecision",
    "mlflow": "handlers.mlflow_log.MLflow",
    "nan_guard": "handlers.nan_guard.NaNGuard",
    "profiler": "handlers.profiler.Profiler",
    "progress": "handlers.progress.Progress",
    "report": "handlers.report.Report",
    "run_log": "handlers.run_log.RunLog",
    "scan_pairs": "handlers.scan_pairs.ScanPairs",
    "step_log": "handlers.step_log.StepLog",
    "swa": "handlers.swa.SWA",
    "tensorboard": "handlers.tensorboard_log.TensorBoard",
    "throughput": "handlers.throughput.Throughput",
    "training_curves": "handlers.training_curves.TrainingCurves",
    "validation": "handlers.validation.Validation",
    "wandb": "handlers.wandb_log.WandB",
}
