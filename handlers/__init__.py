"""Independent handlers, and the short names by which a configuration finds them."""

import importlib
from typing import Any

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
    "pruning": "handlers.pruning.Pruning",
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


def __getattr__(name: str) -> Any:
    for path in HANDLERS.values():
        module, _, found = path.rpartition(".")
        if found == name:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'handlers' has no attribute '{name}'")
