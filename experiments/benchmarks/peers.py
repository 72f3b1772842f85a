"""Public engines on the tiny task: Ignite as its tutorials show it, and MONAI's on top of it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from ignite.handlers import (
    Checkpoint,
    CosineAnnealingScheduler,
    DiskSaver,
    EarlyStopping,
    EMAHandler,
    global_step_from_engine,
)
from ignite.metrics import ROC_AUC, Accuracy, Loss
from torch import nn
from torch.optim import AdamW

from experiments.benchmarks.tiny_task import Mark, TinyTask

# More epochs than any run here has: what is measured is the handler, not the stop.
PATIENCE = 10
KEPT_CHECKPOINTS = 3

Pair = Callable[[Any], tuple[Any, Any]]


def ignite_minimal(task: TinyTask, folder: Path, mark: Mark) -> nn.Module:
    """An Ignite engine around the step, without a handler."""
    model, optimizer, criterion = _parts(task)

    def step(engine: Engine, batch: Any) -> float:
        points, target = batch
        optimizer.zero_grad()
        loss = criterion(model(points), target)
        loss.backward()
        optimizer.step()
        return float(loss.item())

    trainer = Engine(step)
    _mark_epochs(trainer, mark)
    trainer.run(task.pairs("train"), max_epochs=task.epochs)
    return model


def ignite_full(task: TinyTask, folder: Path, mark: Mark) -> nn.Module:
    """Ignite with its own handlers and metrics for all features."""
    model, optimizer, criterion = _parts(task)

    def step(engine: Engine, batch: Any) -> tuple[Any, Any]:
        points, target = batch
        model.train()
        optimizer.zero_grad()
        logits = model(points)
        criterion(logits, target).backward()
        nn.utils.clip_grad_norm_(model.parameters(), task.max_norm)
        optimizer.step()
        return logits.detach(), target

    trainer = Engine(step)
    _mark_epochs(trainer, mark)
    _attach_policies(task, folder, trainer, model, optimizer)
    for name, metric in _metrics(criterion, lambda output: output).items():
        metric.attach(trainer, name)
    trainer.run(task.pairs("train"), max_epochs=task.epochs)
    return model


def monai_minimal(task: TinyTask, folder: Path, mark: Mark) -> nn.Module:
    """MONAI's SupervisedTrainer without handlers, decollating off."""
    model, optimizer, criterion = _parts(task)
    trainer = _monai_trainer(task, model, optimizer, criterion, decollate=False)
    _mark_epochs(trainer, mark)
    trainer.run()
    return model


def monai_full(task: TinyTask, folder: Path, mark: Mark, decollate: bool = False) -> nn.Module:
    """MONAI's SupervisedTrainer with Ignite's handlers and metrics for all features.

    Args:
        task: What to train on.
        folder: For checkpoints.
        mark: Told of each epoch's start and of the end.
        decollate: Split each batch into samples, as MONAI does unless told not to.
    """
    from monai.engines.utils import IterationEvents  # type: ignore[import-not-found,unused-ignore]

    model, optimizer, criterion = _parts(task)

    def pair(output: Any) -> tuple[Any, Any]:
        if isinstance(output, list):
            return (
                torch.stack([sample["pred"].detach() for sample in output]),
                torch.stack([torch.as_tensor(sample["label"]) for sample in output]),
            )
        return output["pred"].detach(), output["label"]

    metrics = _metrics(criterion, pair)
    # Without a key metric MONAI drops the others too.
    key = {"auroc": metrics.pop("auroc")}
    measured = {"key_train_metric": key, "additional_metrics": metrics}
    trainer = _monai_trainer(task, model, optimizer, criterion, decollate=decollate, **measured)
    _mark_epochs(trainer, mark)
    trainer.add_event_handler(
        IterationEvents.BACKWARD_COMPLETED,
        lambda _: nn.utils.clip_grad_norm_(model.parameters(), task.max_norm),
    )
    _attach_policies(task, folder, trainer, model, optimizer)
    trainer.run()
    return model


def _parts(task: TinyTask) -> tuple[nn.Module, AdamW, nn.Module]:
    model = task.make_model()
    optimizer = AdamW(model.parameters(), task.lr, weight_decay=task.weight_decay)
    return model, optimizer, nn.CrossEntropyLoss()


def _monai_trainer(
    task: TinyTask, model: nn.Module, optimizer: AdamW, criterion: nn.Module, **params: Any
) -> Any:
    from monai.engines import (  # type: ignore[import-not-found,unused-ignore]
        SupervisedTrainer,
    )

    return SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=task.epochs,
        train_data_loader=[{"image": p, "label": t} for p, t in task.pairs("train")],
        network=model,
        optimizer=optimizer,
        loss_function=criterion,
        optim_set_to_none=True,
        **params,
    )


def _metrics(criterion: nn.Module, pair: Pair) -> dict[str, Any]:
    def likelier(output: Any) -> tuple[Any, Any]:
        logits, target = pair(output)
        return logits.softmax(dim=1)[:, 1], target

    return {
        "loss": Loss(criterion, output_transform=pair),
        "accuracy": Accuracy(output_transform=pair),
        "auroc": ROC_AUC(output_transform=likelier),
    }


def _mark_epochs(trainer: Engine, mark: Mark) -> None:
    trainer.add_event_handler(Events.EPOCH_STARTED, lambda _: mark())
    trainer.add_event_handler(Events.COMPLETED, lambda _: mark())


def _attach_policies(
    task: TinyTask, folder: Path, trainer: Engine, model: nn.Module, optimizer: AdamW
) -> None:
    """Cosine and EMA each step; validation, early stopping and a checkpoint each epoch."""
    criterion = nn.CrossEntropyLoss()
    cosine = CosineAnnealingScheduler(optimizer, "lr", task.lr, 0.0, cycle_size=task.steps)
    trainer.add_event_handler(Events.ITERATION_STARTED, cosine)
    ema = EMAHandler(model, momentum=1 - task.ema_decay)
    ema.attach(trainer, event=Events.ITERATION_COMPLETED)

    def measure(engine: Engine, batch: Any) -> tuple[Any, Any]:
        points, target = batch
        ema.ema_model.eval()
        with torch.no_grad():
            return ema.ema_model(points), target

    evaluator = Engine(measure)
    for name, metric in _metrics(criterion, lambda output: output).items():
        metric.attach(evaluator, name)
    val = task.pairs("val")
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda _: evaluator.run(val))

    def auroc(engine: Engine) -> float:
        return float(evaluator.state.metrics["auroc"])

    checkpoint = Checkpoint(
        {"model": model, "averaged": ema.ema_model, "optimizer": optimizer, "trainer": trainer},
        DiskSaver(str(folder), require_empty=False),
        n_saved=KEPT_CHECKPOINTS,
        score_function=auroc,
        score_name="auroc",
        global_step_transform=global_step_from_engine(trainer),
    )
    evaluator.add_event_handler(Events.COMPLETED, checkpoint)
    stopping = EarlyStopping(patience=PATIENCE, score_function=auroc, trainer=trainer)
    evaluator.add_event_handler(Events.COMPLETED, stopping)
