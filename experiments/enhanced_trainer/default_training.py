"""The task of a model, its default training without a configuration, and its file."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from datasets.cohort import UNNAMED_AXIS
from datasets.errors import UsageError, file_errors, nearest
from engine.checkpointing import load_checkpoint, preserve_rng_state, save_checkpoint
from engine.eval_mode import eval_mode
from engine.evaluator import Evaluator
from engine.losses import choose_loss
from engine.metrics import TASKS, EpochOutputs
from engine.model_call import call_model
from engine.model_validation import validate_model
from engine.precision import best_device
from engine.protocols import Loss
from engine.trainer import Trainer
from experiments.builders import (
    attach_training,
    attach_validation,
    build_configured_optimizer,
    build_loss,
)
from experiments.config import (
    AUXILIARY_TERMS,
    Config,
    EarlyStoppingConfig,
    OptimizerConfig,
    SchedulerConfig,
    TrainerConfig,
    default_loss,
)
from experiments.enhanced_trainer.any_loader import AnyLoader
from handlers.checkpoint import Checkpoint
from handlers.progress import Progress
from handlers.run_log import RunLog
from handlers.training_curves import TrainingCurves

# The rate is halved when half of the usual patience has passed in vain.
PLATEAU: dict[str, Any] = {"mode": "min", "factor": 0.5, "patience": 5}


def history_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[float]]:
    """``epoch`` and each metric of ``Trainer.history`` -> one value an epoch, NaN for none."""
    names = dict.fromkeys(name for row in rows for name in row["metrics"])
    columns = {n: [float(row["metrics"].get(n, float("nan"))) for row in rows] for n in names}
    return {"epoch": [float(row["epoch"]) for row in rows], **columns}


def device_or_cpu(name: str) -> torch.device:
    """The device of that name; where there is no GPU, say so in a line and take the CPU."""
    try:
        return best_device(name)
    except ValueError as error:
        if not name.startswith("cuda") or torch.cuda.is_available():
            raise UsageError(f"device: {error}") from error
        print(f"device '{name}': no CUDA device is available here, using the CPU", file=sys.stderr)
        return torch.device("cpu")


def build_default_trainer(
    evaluator: Evaluator,
    task: LearningTask,
    lr: float,
    weight_decay: float,
    plateau_of: str = "val/loss",
    run_dir: Path | None = None,
    val_loader: AnyLoader | None = None,
    patience: int | None = None,
    save_best: bool = False,
    curves: Path | None = None,
) -> tuple[Trainer, list[Any]]:
    """A trainer of an evaluator's model, and its handlers; without a folder there is no log."""
    followed: dict[str, Any] = {"monitor": task.monitor, "mode": task.mode}
    early = EarlyStoppingConfig.model_construct(**followed, patience=patience)
    # Not validated: the optimizer and the handlers check a caller's values, by their own names.
    config = Config.model_construct(
        optimizer=OptimizerConfig.model_construct(lr=lr, weight_decay=weight_decay),
        trainer=TrainerConfig.model_construct(early_stopping=None if patience is None else early),
        lr_scheduler=SchedulerConfig(name="plateau", params={"monitor": plateau_of, **PLATEAU}),
    )
    with preserve_rng_state():  # the optimizer is tried on a weight of its own
        optimizer = build_configured_optimizer(config.optimizer, evaluator.model)
    trainer = Trainer(evaluator.model, optimizer, evaluator.loss, evaluator.device, run_dir)
    attached: list[Any] = []

    def attach(cls: Any, key: str = "", **params: Any) -> None:
        attached.append(cls(**params))
        trainer.attach(attached[-1])

    if run_dir is not None:
        attach(RunLog, **followed)
    attach(Progress)
    if save_best:
        attach(Checkpoint, **followed, save_top_k=0, save_last=False)
    if curves is not None:
        attach(TrainingCurves, path=curves)
    attach_training(config, trainer, evaluator, task.loss_terms, attach)
    attach_validation(config, trainer, evaluator, val_loader, task.loss_terms, attach)
    return trainer, attached


def save_weights(model: nn.Module, path: Path, **others: Any) -> None:
    """Write a model's weights, and ``others`` of plain types, atomically; make missing folders."""
    with file_errors(f"cannot make the folder {path.parent}"):
        path.parent.mkdir(parents=True, exist_ok=True)
    meta = {"model": {"name": type(model).__name__}}
    save_checkpoint(path, {"model": dict(model.state_dict()), **others}, meta)


def load_weights(model: nn.Module, path: Path) -> dict[str, Any]:
    """Take the weights of a file that :func:`save_weights` or a checkpoint handler wrote.

    A model that it does not fit stays as it was. Returns what the file holds beside the weights.
    """
    content = load_checkpoint(path)
    saved, own = content["states"].get("model", {}), model.state_dict()
    wrong = []
    for name in dict.fromkeys([*own, *saved]):
        there, here = _shape(saved, name), _shape(own, name)
        if there != here:
            wrong.append(f"'{name}' ({there} there, {here} here)")
    if wrong:
        told = content["meta"].get("model")
        whose = f" ({told['name']})" if isinstance(told, Mapping) and "name" in told else ""
        raise UsageError(
            f"{path} holds another model{whose} than this {type(model).__name__}: "
            f"{len(wrong)} tensors differ, such as {wrong[0]}"
        )
    model.load_state_dict(saved)
    return {name: state for name, state in content["states"].items() if name != "model"}


def _shape(state: Mapping[str, Any], name: str) -> str:
    return str(list(getattr(state[name], "shape", ()))) if name in state else "none"


KINDS = {"binary": "class", "multiclass": "class", "multilabel": "label", "regression": "target"}


@dataclass(frozen=True)
class Names:
    """The names on the pages; None where only their numbers are known. ``axis``: [L]."""

    classes: Sequence[str] | None = None
    covariates: Sequence[str] | None = None
    axis: np.ndarray | None = None
    axis_name: str = UNNAMED_AXIS

    def check(self, outputs: int, batch: Any) -> None:
        """Refuse names that are not as many as what they name, and outputs of one name."""
        for name, values, needed in (
            ("class_names", self.classes, outputs),
            ("covariate_names", self.covariates, batch.tabular.shape[1]),
            ("axis", self.axis, batch.spectra.shape[2]),
        ):
            if values is not None and len(values) != needed:
                raise UsageError(f"{name}: {len(values)} given, but there are {needed}")
        classes = [] if self.classes is None else [str(name) for name in self.classes]
        twice = [name for name in classes if classes.count(name) > 1]
        if twice:
            raise UsageError(f"class_names: '{twice[0]}' is given twice")

    def of_outputs(self, outputs: EpochOutputs) -> list[str]:
        """A name for each output."""
        return self.of_task(outputs.task, outputs.logits.shape[1])

    def of_task(self, task: str, outputs: int) -> list[str]:
        """A name for each of a task's outputs."""
        if self.classes is not None:
            return [str(name) for name in self.classes]
        return [f"{KINDS[task]} {n}" for n in range(outputs)]


ZEROS_AND_ONES = (
    "labels 0.0 and 1.0 are floating point and so are taken as values to regress (say "
    "task='regression' to keep them so); for labels that are there or not say task='multilabel', "
    "for classes give whole numbers [B]"
)


@dataclass(frozen=True)
class LearningTask:
    """A task, its loss (perhaps the model's own), the monitored metric, and the logits' width."""

    name: str
    outputs: int
    loss: Loss
    loss_terms: list[str]
    monitor: str
    mode: str


def find_task(
    model: nn.Module, loader: AnyLoader, device: torch.device, task: str | None = None
) -> LearningTask:
    """Find out what a model is to learn, on a loader's first batch, unless ``task`` says it.

    Classes long [B] make a classification, labels [B, T] (0 or 1) one of several labels, floating
    point values a regression. From then on the loader yields its targets as that task wants them.
    """
    if task is not None and task not in TASKS:
        raise UsageError(f"task: '{task}' is unknown{nearest(task, TASKS)}")
    loader.task, loader.num_classes, loader.scaler = task, None, None  # of an earlier model
    batch = loader.first()
    outputs = _look(model, batch, device)
    width, target = int(outputs["logits"].shape[1]), batch.target
    kind = task or ("binary" if width == 2 else "multiclass")
    if task is None and (target.is_floating_point() or target.ndim == 2):
        kind = "regression" if target.is_floating_point() else "multilabel"
    _check(kind, target, width, type(model).__name__, loader.name)
    if task is None and kind == "regression" and bool(((target == 0) | (target == 1)).all()):
        print(f"{loader.name}: {ZEROS_AND_ONES}", file=sys.stderr)
    loader.task = kind
    loader.num_classes = width if kind in ("binary", "multiclass") else None
    batch = loader.first()
    # As a configuration has it by default.
    has_heads = all(outputs.get(name) is not None for name in AUXILIARY_TERMS.values())
    default = build_loss(*default_loss(kind, has_heads, {}), kind, batch.target, width)
    loss = choose_loss(model, default.to(device))
    with eval_mode(model):
        terms = validate_model(model, loss, batch, width, device)
    # A regression is followed by the very loss that is trained, whatever a model's own may be.
    monitor, mode = ("val/loss", "min") if kind == "regression" else ("val/auroc", "max")
    return LearningTask(kind, width, loss, terms, monitor, mode)


def _look(model: nn.Module, batch: Any, device: torch.device) -> Mapping[str, Any]:
    with eval_mode(model), torch.no_grad(), preserve_rng_state():
        outputs = call_model(model, batch.to(device))
    logits = outputs.get("logits") if isinstance(outputs, Mapping) else None
    if not isinstance(logits, torch.Tensor):
        found = nearest("logits", outputs) if isinstance(outputs, Mapping) else ""
        raise UsageError(
            f"model {type(model).__name__} must return a dict with 'logits', a tensor [B, C]{found}"
        )
    if logits.ndim != 2 or len(logits) != len(batch.target):
        raise UsageError(
            f"model {type(model).__name__} gives logits of shape "
            f"{list(logits.shape)} for {len(batch.target)} samples, expected [B, C]"
        )
    return outputs


def _check(kind: str, target: torch.Tensor, width: int, model: str, loader: str) -> None:
    shape = list(target.shape)
    if kind in ("regression", "multilabel"):
        if target.ndim != 2 or target.shape[1] != width:
            classes = "; classes must be whole numbers" if target.is_floating_point() else ""
            raise UsageError(
                f"{loader}: targets of shape {shape} for {kind}, but model {model} has {width} "
                f"outputs{classes}"
            )
        return
    if target.is_floating_point() or target.ndim != 1:
        raise UsageError(
            f"{loader}: {kind} needs whole-number labels [B], these are {target.dtype} of shape "
            f"{shape}{'; use label.long()' if target.is_floating_point() else ''}"
        )
    if width < 2 or (kind == "binary" and width != 2):
        raise UsageError(
            f"model {model} has logits for {width} classes; {kind} needs "
            f"{'2' if kind == 'binary' else 'at least 2'}, one logit a class"
        )
