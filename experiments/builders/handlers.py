"""From a configuration to attached handlers."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets.errors import UsageError
from engine.distributed import Replicas, world_size
from engine.metrics import EpochMetrics, Monitor
from experiments.builders.data import default_cache_dir
from experiments.config import construct, find_named
from experiments.launch import replica_devices
from handlers import HANDLERS
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.compile import Compile
from handlers.distributed_training import DistributedTraining
from handlers.early_stopping import EarlyStopping
from handlers.ema import EMA
from handlers.graceful_shutdown import GracefulShutdown
from handlers.gradient_clipping import GradientClipping
from handlers.lr_schedule import LRSchedule
from handlers.mixed_precision import MixedPrecision
from handlers.progress import Progress
from handlers.report import Page, Report
from handlers.run_log import RunLog
from handlers.step_log import StepLog
from handlers.tensorboard_log import TensorBoard
from handlers.training_curves import TrainingCurves
from handlers.validation import Validation

if TYPE_CHECKING:
    from engine.evaluator import Evaluator
    from engine.protocols import Handler
    from engine.trainer import Trainer
    from experiments.config import Config

# Keys that stand for one parameter of their handler.
VALUE = {"trainer.compile": "mode", "trainer.precision": "precision"}
Attach = Callable[..., Any]


@dataclass(frozen=True)
class RunHandlers:
    """The handlers that later stages use; ``repeated`` has a line on each attached twice."""

    checkpoint: Checkpoint
    log: RunLog
    graceful_shutdown: GracefulShutdown
    averager: Any | None
    closing: tuple[Any, ...]
    repeated: tuple[str, ...] = ()

    def averaged_weights(self) -> AbstractContextManager[Any]:
        """A context with the weights that are evaluated and exported: averaged ones if any."""
        return self.averager.averaged_weights() if self.averager else nullcontext()

    def close(self) -> None:
        """Close files."""
        for handler in self.closing:
            handler.close()


def build_handlers(
    config: Config,
    trainer: Trainer,
    evaluator: Evaluator,
    val_loader: Any,
    loss_terms: list[str],
    page: Page | None = None,
    watched: bool = True,
) -> RunHandlers:
    """Attach the configured handlers; none writes before training, ``page`` during it.

    What is not ``watched`` prints no epochs and writes none for TensorBoard.
    """
    settings = config.trainer
    attached: list[Handler] = []

    def measured_weights() -> AbstractContextManager[Any]:
        return averager.averaged_weights() if averager else nullcontext()

    # What only a run can give; each handler is given what it names.
    offered = {"loader": val_loader, "measured_weights": measured_weights, "loss_terms": loss_terms}

    def attach(cls: Any, key: str, **params: Any) -> Any:
        with _keys_in_errors(key, cls):
            handler = construct(cls, params, key, offered)
            if not callable(getattr(handler, "attach", None)):
                raise UsageError(f"{key}: {cls.__name__} is no handler, it has no attach(trainer)")
            if isinstance(getattr(handler, "monitor", None), Monitor):
                handler.monitor.user = key
            attached.append(handler)
            trainer.attach(handler)
        return handler

    checkpoint = attach(Checkpoint, "checkpoint", **config.checkpoint.model_dump())
    followed = {"monitor": config.checkpoint.monitor, "mode": config.checkpoint.mode}
    log = attach(RunLog, "checkpoint", **followed)
    # Attached in any case, so that a resumed run can begin to log steps.
    attach(StepLog, "log", every=config.log.every_steps)
    graceful_shutdown = attach(GracefulShutdown, "graceful_shutdown")
    graceful_shutdown.watch(evaluator)
    if watched:
        attach(Progress, "progress")
        attach(TensorBoard, "tensorboard")
    precision = attach(MixedPrecision, "trainer.precision", precision=settings.precision)
    precision.attach(evaluator)
    if settings.processes.strategy == "dp":
        trainer.network = Replicas(trainer.model, replica_devices(settings))
    if world_size() > 1:
        options = settings.processes.model_dump(exclude={"strategy", "backend"})
        if options["overlap"] is None:
            options["overlap"] = settings.compile != "graphs"
        attach(DistributedTraining, "trainer.processes", **options)

    if settings.compile is not None:
        kept = (config.data.cache_dir or default_cache_dir()) / "compiled"
        attach(Compile, "trainer.compile", mode=settings.compile, cache_dir=kept)

    attach_training(config, trainer, evaluator, loss_terms, attach)
    if config.ema.decay is not None:
        attach(EMA, "ema", decay=config.ema.decay, warmup=config.ema.warmup)
    for number, named in enumerate(config.handlers):
        key = f"handlers.{number}"
        attach(find_named(named.name, HANDLERS, f"{key}.name"), f"{key}.params", **named.params)
    averagers = [handler for handler in attached if hasattr(handler, "averaged_weights")]
    if len(averagers) > 1:
        names = " and ".join(type(handler).__name__ for handler in averagers)
        raise UsageError(f"handlers: {names} both average the weights; choose one")
    averager = averagers[0] if averagers else None
    weights = {"weights": averager.averaged_weights} if averager else {}
    attach_validation(config, trainer, evaluator, val_loader, loss_terms, attach, **weights)
    if config.report.enabled:
        attach(TrainingCurves, "report")
        if page is not None:
            attach(Report, "report", page=page)

    closing = tuple(handler for handler in attached if hasattr(handler, "close"))
    return RunHandlers(
        checkpoint, log, graceful_shutdown, averager, closing, tuple(_repeated(config, attached))
    )


def attach_training(
    config: Config,
    trainer: Trainer,
    evaluator: Evaluator,
    loss_terms: Sequence[str],
    attach: Attach,
) -> None:
    """Measure the training epochs as the evaluator does its own; attach what changes a step."""
    asked, settings = evaluator.metrics, config.trainer
    measured = EpochMetrics(asked.metrics, "train/", asked.task, asked.restore, asked.targets)
    trainer.provide_metrics(*measured.metric_names(loss_terms))
    measured.attach(trainer)
    if settings.accumulate_steps > 1:
        attach(Accumulation, "trainer.accumulate_steps", steps=settings.accumulate_steps)
    if settings.grad_clip is not None:
        attach(GradientClipping, "trainer.grad_clip", max_norm=settings.grad_clip)


def attach_validation(
    config: Config,
    trainer: Trainer,
    evaluator: Evaluator,
    val_loader: Any,
    loss_terms: Sequence[str],
    attach: Attach,
    **weights: Any,
) -> None:
    """Attach validation, unless its loader is None, the learning rate and early stopping."""
    if val_loader is not None:
        trainer.attach(Validation(evaluator, val_loader, loss_terms=loss_terms, **weights))
    if config.lr_scheduler is not None:
        schedule = config.lr_scheduler
        own = {"name": schedule.name, "warmup_steps": schedule.warmup_steps or 0}
        attach(LRSchedule, "lr_scheduler.params", **own, **schedule.params)
    stopping = config.trainer.early_stopping
    if stopping is not None:
        attach(EarlyStopping, "trainer.early_stopping", **stopping.model_dump(exclude_none=True))


@contextmanager
def _keys_in_errors(key: str, cls: type) -> Iterator[None]:
    """Errors by the configuration's keys, where a handler names itself and its parameters."""
    try:
        yield
    except UsageError as error:
        own = cls.__module__.rpartition(".")[2]
        names = "|".join(inspect.signature(cls).parameters)
        line = re.sub(rf"\b{own}\.(?=(?:{names})\b)", f"{key}.", str(error))
        line = re.sub(rf"^{own}:", f"{key}:", line).replace(f"{key}.{VALUE.get(key)}", key)
        raise UsageError(line) from error


def _repeated(config: Config, attached: Sequence[Handler]) -> Iterator[str]:
    """A line on each handler of ``handlers`` that is attached more than once."""
    counts = Counter(type(handler) for handler in attached)
    chosen = {find_named(named.name, HANDLERS, "handlers"): named.name for named in config.handlers}
    for cls, name in chosen.items():
        if counts[cls] > 1:
            yield f"warning: handlers: {name} is attached {counts[cls]} times, and each one acts"
