"""One object that trains, measures, explains and compares a model: no configuration needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from engine.attribution import Explained
from engine.checkpoints import broken_weight
from engine.errors import UsageError, check_whole
from engine.evaluator import Evaluator
from engine.events import TrainEvents
from engine.metric_tables import read_log
from engine.metrics import EpochMetrics, EpochOutputs
from engine.protocols import Handler
from engine.trainer import Trainer
from experiments.facade.any_loader import AnyLoader
from experiments.facade.default_training import (
    History,
    default_handlers,
    device_or_cpu,
    make_trainer,
)
from experiments.facade.examined_model import look_at_model
from experiments.facade.learning_task import LearningTask, find_task
from experiments.facade.model_comparison import compare, write_comparison
from experiments.facade.model_files import load_weights, save_weights
from experiments.facade.model_summary import summarise_model
from experiments.facade.names import Names
from experiments.findings import Findings
from experiments.kept_findings import KeptFindings
from experiments.pages.examined import Examined
from experiments.pages.figure_images import write_images
from experiments.pages.figures import training_curves
from experiments.pages.finding_sections import FindingSections
from experiments.pages.result_pages import ResultPages
from experiments.run_folder import new_run_dir
from handlers.checkpoint import BEST_NAME
from handlers.run_log import RunLog

BEST_MODEL = "best_model.pt"
CURVES = "training_curves"


class EnhancedTrainer:
    """Trains a model with sound defaults and leaves pages that show what came of it.

    A thin face over :class:`engine.trainer.Trainer`, :class:`engine.evaluator.Evaluator` and the
    handlers; what it does not offer, they do. The defaults: AdamW, gradients of at most norm 1, a
    learning rate that is halved on a plateau of ``val/loss``, the best epoch by ``val/auroc`` (of
    a regression by ``val/loss``), early stopping on the same. The loss is the model's own
    ``compute_loss``, else what a configuration would take (:mod:`experiments.default_loss`):
    cross-entropy of classes, binary cross-entropy of labels, squared errors of values, which are
    learned as they are given (standardise large ones); and the same on auxiliary heads.

    Loaders may yield batches, dicts or tuples, as :mod:`experiments.facade.any_loader` has it;
    what is to be learned is found out from the targets (:mod:`experiments.facade.learning_task`).

    Files go to ``<save_dir>/<model_name>``. Nothing there is overwritten: where the folder exists,
    a training takes ``<model_name>-2`` and so on, and says so; a second evaluation of one training
    goes to ``evaluation-2`` within its folder.

    Args:
        model: Maps (spectra [B, S, L], mask [B, S], tabular [B, D]) to a dict with ``logits``.
        model_name: The folder's name.
        device: Where to compute; without a GPU, ``cuda`` says so and takes the CPU.
        lr: The full learning rate.
        weight_decay: Of matrices; biases and norms get none.
        save_dir: Holds the folders.
        enable_visualization: Write ``training_curves.html`` and ``evaluation_plots.html``.
        enable_interpretability: Write ``feature_importance.html``, ``shap_analysis.html``,
            ``pca_analysis.html`` and ``attention_analysis.html``.
        task: ``binary``, ``multiclass``, ``multilabel`` or ``regression``, if it is not to be
            inferred.
        class_names: Of the classes, the labels or the targets, for the pages.
        covariate_names: D names, for the pages.
        axis: Where each point of a scan is, [L], for the pages.
        axis_name: What that is.

    Attributes:
        trainer: The last training's engine, None before the first.
        history: The last training's.
        run_dir: Where the files are, None before there are any.

    Raises:
        UsageError: The name is no folder's name, or there is no such device.

    Example::

        trainer = EnhancedTrainer(TFTMultimodal(tab_dim=8, spec_len=2048))
        history = trainer.train(train_loader, val_loader, epochs=30)
        metrics = trainer.evaluate(test_loader)
    """

    def __init__(
        self,
        model: nn.Module,
        model_name: str = "TFTMultimodal",
        device: str = "cuda",
        lr: float = 3e-4,
        weight_decay: float = 1e-4,
        save_dir: str | Path = "results",
        enable_visualization: bool = True,
        enable_interpretability: bool = True,
        *,
        task: str | None = None,
        class_names: Sequence[str] | None = None,
        covariate_names: Sequence[str] | None = None,
        axis: np.ndarray | None = None,
        axis_name: str = "m/z",
    ) -> None:
        if not re.fullmatch(r"\w[\w .+-]*", model_name):
            raise UsageError(f"model_name: '{model_name}' cannot be a folder's name")
        self.device = device_or_cpu(str(device))
        self.model = model.to(self.device)
        self.model_name = model_name
        self.lr, self.weight_decay = lr, weight_decay
        self.save_dir = Path(save_dir)
        self.enable_visualization = enable_visualization
        self.enable_interpretability = enable_interpretability
        self.task = task
        self.names = Names(class_names, covariate_names, axis, axis_name)
        self.trainer: Trainer | None = None
        self.history: dict[str, list[float]] = {}
        self.run_dir: Path | None = None
        self._log: RunLog | None = None
        self._said_why_no_images = False

    # -- training ---------------------------------------------------------------------------

    def train(
        self,
        train_loader: Any,
        val_loader: Any,
        epochs: int = 50,
        early_stopping_patience: int | None = 10,
        save_best: bool = True,
        *,
        handlers: Sequence[Handler] = (),
    ) -> dict[str, list[float]]:
        """Train for so many epochs, or until the validation no longer improves.

        It starts from the weights that the model has: those it was made or loaded with, or those
        of an earlier call. Optimizer, schedule and patience begin anew, and so does the folder.

        Args:
            train_loader: Yields the training batches.
            val_loader: Yields every validation sample once.
            epochs: At most so many.
            early_stopping_patience: Epochs without an improvement; None trains all epochs.
            save_best: Keep ``best_model.pt``, and end with its weights; otherwise with the last.
            handlers: Further handlers to attach.

        Returns:
            ``epoch`` and each metric (``train/loss``, ``val/loss``, ``val/auroc``, ``lr``, ...) ->
            one value an epoch; NaN where it was undefined or not measured.

        Raises:
            UsageError: Something that can be mended, in one line.
        """
        train, val = AnyLoader(train_loader, "train_loader"), AnyLoader(val_loader, "val_loader")
        check_whole("epochs", epochs)
        task = find_task(self.model, train, self.device, self.task)
        find_task(self.model, val, self.device, task.name)
        self.run_dir = run_dir = self._claim(self.model_name)
        curves = run_dir / f"{CURVES}.html" if self.enable_visualization else None
        evaluator = Evaluator(self.model, task.loss, self._metrics(task), self.device)
        recorded = History()
        try:
            defaults = default_handlers(
                evaluator, task, val, early_stopping_patience, save_best, curves
            )
            attached = [*defaults, *handlers, recorded]
            self.trainer = make_trainer(evaluator, task, self.lr, self.weight_decay, run_dir)
            self.trainer.attach(*attached)
            self.trainer.check_monitors()
        except UsageError:
            run_dir.rmdir()  # nothing was written yet: handlers write when they run
            raise
        self._log = next(handler for handler in defaults if isinstance(handler, RunLog))
        if save_best:
            self.trainer.add_event_handler(TrainEvents.NOTICE, self._keep_best)
        try:
            self.trainer.fit(train, epochs)
        finally:
            for handler in attached:
                if hasattr(handler, "close"):
                    handler.close()
            self.history = recorded.columns()
        if save_best:
            self._take_best(task.monitor)
        if curves is not None:
            epoch_rows = [row for row in read_log(self._log.path) if row["event"] == "epoch"]
            images = {curves.with_suffix(".png"): [training_curves(epoch_rows)]}
            self._say_why_no_images(write_images(images))
        return self.history

    def _keep_best(self, trainer: Trainer) -> None:
        """Write ``best_model.pt`` when the checkpoint handler has found a better epoch."""
        notice = trainer.state.notice
        if notice["event"] == "checkpoint_saved" and BEST_NAME in notice["files"]:
            assert self.run_dir is not None
            self.save_model(self.run_dir / BEST_MODEL)

    def _take_best(self, monitor: str) -> None:
        assert self.run_dir is not None
        if (self.run_dir / BEST_MODEL).is_file():
            self.load_model(self.run_dir / BEST_MODEL)
            return
        broken = broken_weight(self.model)
        if broken is not None:
            raise UsageError(
                f"the training diverged: weight '{broken}' is not finite and there is no earlier "
                "checkpoint; lower lr"
            )
        self.save_model(self.run_dir / BEST_MODEL)
        print(f"{monitor} was undefined in every epoch: {BEST_MODEL} holds the last weights")

    # -- measuring --------------------------------------------------------------------------

    def evaluate(self, test_loader: Any, generate_plots: bool = True) -> dict[str, float]:
        """Measure the model, and write the pages that were asked for.

        Args:
            test_loader: Yields every sample once.
            generate_plots: Write the pages.

        Returns:
            Metric -> value; NaN where a metric is undefined on these samples.

        Raises:
            UsageError: Something that can be mended, in one line.
        """
        loader = AnyLoader(test_loader, "test_loader")
        wanted = generate_plots and self.enable_interpretability
        kept = KeptFindings() if wanted else None
        metrics, outputs = self._measure(self.model, loader, kept)
        if self._log is not None:
            self._log.write("test_completed", metrics=metrics)
        if generate_plots and (self.enable_visualization or self.enable_interpretability):
            self._write_pages(loader, metrics, outputs, kept)
        return metrics

    def _measure(
        self, model: nn.Module, loader: AnyLoader, kept: KeptFindings | None = None
    ) -> tuple[dict[str, float], EpochOutputs]:
        task = find_task(model.to(self.device), loader, self.device, self.task)
        self.names.check(task.outputs, loader.first())
        evaluator = Evaluator(model, task.loss, self._metrics(task), self.device)
        with nullcontext() if kept is None else kept.attached(evaluator):
            metrics = evaluator.evaluate(loader)
        outputs = evaluator.metrics.outputs
        assert outputs is not None
        return metrics, outputs

    def _metrics(self, task: LearningTask) -> EpochMetrics:
        targets = self.names.of_targets(task.name, task.outputs)
        return EpochMetrics(task=task.name, targets=targets)

    def _write_pages(
        self,
        loader: AnyLoader,
        metrics: Mapping[str, float],
        outputs: EpochOutputs,
        kept: KeptFindings | None,
    ) -> None:
        if self.run_dir is None:
            self.run_dir = folder = self._claim(self.model_name)
        elif any((self.run_dir / name).exists() for name in ResultPages.FIRST):
            folder = new_run_dir(self.run_dir, "evaluation")
            print(f"pages of this evaluation: {folder}")
        else:
            folder = self.run_dir
        shap: Sequence[Explained] = ()
        if kept is None:
            examined = Examined(outputs, self.names.of_outputs(outputs), Findings())
        else:
            examined, shap = look_at_model(self.model, loader, outputs, kept, self.names)
        pages = ResultPages(folder, self.model_name, FindingSections(examined))
        if self.enable_visualization:
            pages.evaluation(metrics)
        if self.enable_interpretability:
            pages.importance()
            pages.shap(shap)
            pages.pca()
            pages.attention()
        self._say_why_no_images(pages.images())

    def compare_models(
        self, models: Mapping[str, nn.Module | EnhancedTrainer | Trainer], test_loader: Any
    ) -> pd.DataFrame:
        """Measure several models on the same samples, with this trainer's device and task.

        Args:
            models: Name -> a model, or a trainer that holds one.
            test_loader: Yields every sample once.

        Returns:
            A row a model; also written, with the curves, to ``<save_dir>/comparison``.

        Raises:
            UsageError: There is no model, or they are not of one task.
        """
        plain = {name: _model_of(thing, name) for name, thing in models.items()}
        loader = AnyLoader(test_loader, "test_loader")
        comparison = compare(plain, lambda model: self._measure(model, loader))
        folder = self._claim("comparison")
        first = next(iter(comparison.outputs.values()))
        written = write_comparison(comparison, folder, self.names.of_outputs(first))
        print(f"comparison: {', '.join(str(path) for path in written)}")
        return comparison.table

    # -- the model --------------------------------------------------------------------------

    def save_model(self, path: str | Path) -> None:
        """Write the model's weights; a file that stood there is replaced when the new one is whole.

        Args:
            path: Folders that it lacks are made. It opens with ``torch.load(weights_only=True)``.

        Raises:
            UsageError: The file cannot be written.
        """
        save_weights(self.model, Path(path))

    def load_model(self, path: str | Path) -> None:
        """Take the weights of a file that :meth:`save_model` or a checkpoint handler wrote.

        Args:
            path: The file; nothing in it can run code.

        Raises:
            UsageError: It is missing, damaged, or another model's; the model stays as it was.
        """
        load_weights(self.model, Path(path))

    def get_model_summary(self) -> dict[str, Any]:
        """Parameters, trainable ones, size in MB, and the same by top-level module.

        See :func:`experiments.facade.model_summary.summarise_model`.
        """
        return summarise_model(self.model)

    # -- folders ----------------------------------------------------------------------------

    def _claim(self, name: str) -> Path:
        folder = new_run_dir(self.save_dir, name)
        if folder.name != name:
            print(f"{self.save_dir / name} exists and is left as it is: writing to {folder}")
        return folder

    def _say_why_no_images(self, reason: str | None) -> None:
        if reason is not None and not self._said_why_no_images:
            self._said_why_no_images = True
            print(reason)


def _model_of(thing: Any, name: str) -> nn.Module:
    model = getattr(thing, "model", thing) if not isinstance(thing, nn.Module) else thing
    if not isinstance(model, nn.Module):
        raise UsageError(f"compare_models: '{name}' is a {type(thing).__name__}, no model")
    return model
