"""One object that trains, measures, explains and compares a model: no configuration needed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from torch import nn

from datasets.cohort import UNNAMED_AXIS, TargetScaler
from datasets.errors import UsageError
from datasets.paths import as_path
from datasets.specs import require_whole
from datasets.summaries import WithSummary
from engine.checkpointing import broken_weight
from engine.evaluator import Evaluator
from engine.events import TrainEvents
from engine.explain import Explained
from engine.metrics import EpochOutputs
from engine.protocols import Handler
from engine.reporting import Results
from engine.trainer import Trainer
from experiments.analysis import AnalysisCollector
from experiments.builders import build_evaluator
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.default_training import (
    LearningTask,
    Names,
    build_default_trainer,
    device_or_cpu,
    find_task,
    history_columns,
    load_weights,
    save_weights,
)
from experiments.enhanced_trainer.evaluation import (
    PREDICTIONS,
    CollectedSamples,
    class_report,
    compare,
    look_at_model,
    summarise_model,
    write_comparison,
    write_evaluation,
)
from experiments.report import ResultPages, write_images, write_images_of
from experiments.report.figures import training_curves
from experiments.run_files import is_named, new_run_dir
from handlers.checkpoint import BEST_NAME
from handlers.run_log import RunLog

BEST_MODEL = "best_model.pt"
CURVES = "training_curves"
# What a regression's values are standardised by, in a checkpoint and in a model's file.
SCALER = "targets"
# Where one of them stands, an evaluation was written already.
FIRST = (PREDICTIONS, "evaluation_plots.html", "feature_importance.html")


class EnhancedTrainer(WithSummary):
    """Trains a model with sound defaults and leaves pages that show what came of it.

    A facade of the engine, the handlers and the builders of :mod:`experiments.builders`. The
    defaults: AdamW, gradients of at most norm 1, a learning rate that is halved on a plateau of
    ``val/loss``, the best epoch by ``val/auroc`` (of a regression by ``val/loss``), early stopping
    on the same. The loss is the model's own ``compute_loss``, else a configuration's default.
    Values are learned standardised by the training samples' mean and standard deviation: so are
    their losses; metrics, predictions and pages are in the values' own unit. Loaders may yield
    batches, dicts or tuples (:class:`AnyLoader`); the targets tell the task (:func:`find_task`).

    Files go to ``<save_dir>/<model_name>``. Nothing there is overwritten: where the folder exists,
    a training takes ``<model_name>-2`` and so on, and says so; a second evaluation of one training
    goes to ``evaluation`` within its folder, a third one to ``evaluation-2``.

    Args:
        model: Maps (spectra [B, S, L], mask [B, S], tabular [B, D]) to a dict with ``logits``.
        device: Without a GPU, ``cuda`` says so and takes the CPU.
        weight_decay: Of matrices; biases and norms get none.
        enable_visualization: Write ``training_curves.html`` and ``evaluation_plots.html``.
        enable_interpretability: Write ``feature_importance.html``, ``shap_analysis.html``,
            ``pca_analysis.html`` and ``attention_analysis.html``.
        task: ``binary``, ``multiclass``, ``multilabel`` or ``regression``, if not to be inferred.
        class_names: Of the classes, labels or targets; these and the following are for the pages.
        axis: Where each point of a scan is, [L], as ``axis_name`` says (``m/z``, ``cm-1``).

    ``trainer`` is the last training's engine, ``history`` its or the loaded model's; ``run_dir`` is
    None before there are files.
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
        axis_name: str = UNNAMED_AXIS,
    ) -> None:
        if not re.fullmatch(r"\w[\w .+-]*", model_name):
            raise UsageError(f"model_name: '{model_name}' cannot be a folder's name")
        self.device = device_or_cpu(str(device))
        self.model = model.to(self.device)
        self.model_name = model_name
        self.lr, self.weight_decay = lr, weight_decay
        self.save_dir = as_path(save_dir)
        self.enable_visualization = enable_visualization
        self.enable_interpretability = enable_interpretability
        self.task = task
        self.names = Names(class_names, covariate_names, axis, axis_name)
        self.trainer: Trainer | None = None
        self.history: dict[str, list[float]] = {}
        self.run_dir: Path | None = None
        self._task: str | None = None  # that the model has learned
        self._scaler: TargetScaler | None = None  # of a regression, belongs to the weights
        self._steps_on = False  # the training is one of successive epochs, one per call
        self._log: RunLog | None = None
        self._said_why_no_images = False

    def summary(self) -> dict[str, object]:
        """Model, device, and how long it was trained."""
        parameters = sum(p.numel() for p in self.model.parameters() if p.requires_grad)
        return {
            "name": self.model_name,
            "model": type(self.model).__name__,
            "parameters": f"{parameters:,}",
            "device": self.device,
            "epochs": len(self.history.get("epoch", ())),
        }

    def details(self) -> dict[str, object]:
        """The folder, and the last epoch's metrics."""
        last = {name: f"{column[-1]:.4g}" for name, column in self.history.items() if column}
        return {"folder": self.run_dir, **last}

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
        """Train for at most ``epochs``, or until the validation no longer improves.

        It starts from the weights that the model has. Optimizer, schedule and patience begin anew,
        and so does the folder. ``val_loader`` yields every validation sample once. Patience None
        trains all epochs. ``save_best`` keeps ``best_model.pt`` and ends with its weights;
        otherwise with the last. Returns ``epoch`` and each metric (``train/loss``, ``val/loss``,
        ``val/auroc``, ``lr``, ...) -> one value an epoch; NaN where undefined or not measured.
        """
        train, val = AnyLoader(train_loader, "train_loader"), AnyLoader(val_loader, "val_loader")
        epochs = require_whole("epochs", epochs, 1)
        task, scaler = self._find_task(train)
        find_task(self.model, val, self.device, task.name)
        val.scaler = scaler
        run_dir = self._claim(self.model_name)
        evaluator = self._evaluator(self.model, task, scaler)
        try:
            trainer, defaults = build_default_trainer(
                evaluator,
                task,
                self.lr,
                self.weight_decay,
                run_dir=run_dir,
                val_loader=val,
                patience=early_stopping_patience,
                save_best=save_best,
                curves=run_dir / f"{CURVES}.html" if self.enable_visualization else None,
            )
            trainer.attach(*handlers)
            trainer.check_monitors()
        except UsageError:
            run_dir.rmdir()  # nothing was written yet: handlers write when they run
            raise
        self._begin(trainer, task, scaler)
        self.run_dir = run_dir
        self._log = next(handler for handler in defaults if isinstance(handler, RunLog))
        if save_best:
            trainer.add_event_handler(TrainEvents.LOG_EVENT, self._keep_best)
        try:
            trainer.fit(train, epochs)
        finally:
            for handler in (*defaults, *handlers):
                if hasattr(handler, "close"):
                    handler.close()
            self.history = history_columns(trainer.history)
        if save_best:
            self._take_best(task.monitor)
        self._generate_training_visualizations()
        return self.history

    def train_epoch(self, loader: Any) -> dict[str, float]:
        """Train for one epoch; further calls continue with the same optimizer and schedule.

        The loader yields as many batches in each call. The learning rate is halved on a plateau of
        ``train/loss``. The first call, also after :meth:`train` or :meth:`load_model`, makes the
        optimizer. Nothing is written. Returns the epoch's metrics (``loss``, ...) and ``lr``.
        """
        batches = AnyLoader(loader, "loader")
        if not self._steps_on:
            task, scaler = self._find_task(batches)
            evaluator = self._evaluator(self.model, task, scaler)
            trainer, _ = build_default_trainer(
                evaluator, task, self.lr, self.weight_decay, "train/loss"
            )
            self._begin(trainer, task, scaler)
            self._log, self._steps_on = None, True
        else:
            find_task(self.model, batches, self.device, self._task)
            batches.scaler = self._scaler
        assert self.trainer is not None
        trained = self.trainer.state.epoch_length
        if trained not in (None, len(batches)):
            raise UsageError(
                f"train_epoch: {len(batches)} batches, expected {trained} as in the epochs before; "
                "train() begins anew"
            )
        self.trainer.fit(batches, self.trainer.epochs_done() + 1)
        self.history = history_columns(self.trainer.history)
        metrics = self.trainer.state.metrics
        return {name.removeprefix("train/"): float(value) for name, value in metrics.items()}

    def _find_task(self, loader: AnyLoader) -> tuple[LearningTask, TargetScaler | None]:
        """The task of a training loader; values of a regression are standardised from now on."""
        task = find_task(self.model, loader, self.device, self.task)
        loader.scaler = loader.fit_scaler() if task.name == "regression" else None
        return task, loader.scaler

    def _begin(self, trainer: Trainer, task: LearningTask, scaler: TargetScaler | None) -> None:
        self.trainer, self._task, self._scaler, self._steps_on = trainer, task.name, scaler, False
        if scaler is not None:
            trainer.register_state(SCALER, scaler)  # a checkpoint's weights belong to it

    def _evaluator(
        self, model: nn.Module, task: LearningTask, scaler: TargetScaler | None
    ) -> Evaluator:
        names = self.names.of_task(task.name, task.outputs)
        return build_evaluator(model, task.loss, self.device, task.name, scaler, names)

    def _keep_best(self, trainer: Trainer) -> None:
        """Write ``best_model.pt`` when the checkpoint handler has found a better epoch."""
        notice = trainer.state.notice
        if notice["event"] == "checkpoint_saved" and BEST_NAME in notice["files"]:
            self.history = history_columns(trainer.history)
            self.save_model()

    def _take_best(self, monitor: str) -> None:
        assert self.run_dir is not None
        if (self.run_dir / BEST_MODEL).is_file():
            load_weights(self.model, self.run_dir / BEST_MODEL)
            self.save_model()  # with the history of all epochs
            return
        broken = broken_weight(self.model)
        if broken is not None:
            raise UsageError(
                f"the training diverged: weight '{broken}' is not finite and there is no earlier "
                "checkpoint; lower lr"
            )
        self.save_model()
        _tell(f"{monitor} was undefined in every epoch: {BEST_MODEL} holds the last weights")

    def evaluate(self, test_loader: Any, generate_plots: bool = True) -> dict[str, Any]:
        """Measure the model, and write predictions, the report by class and pages.

        ``predictions.csv`` and ``classification_report.json``, ``.csv`` and ``.txt`` (but of a
        regression) go to the folder of the training, and the pages beside them. Before a training
        there is no folder: one is made for pages, and nothing is written without them. Returns
        metric -> value, NaN where undefined; ``predictions``, a list of class numbers, labels (0 or
        1) or values; and ``classification_report`` (a regression has none).
        """
        loader = AnyLoader(test_loader, "test_loader")
        wanted = generate_plots and (self.enable_visualization or self.enable_interpretability)
        kept = AnalysisCollector()
        metrics, outputs = self._measure(
            self.model, loader, self._scaler, *(kept.parts if wanted else ())
        )
        if self._log is not None:
            self._log.write("test_completed", metrics=metrics)
        names = self.names.of_outputs(outputs)
        if generate_plots or self.run_dir is not None:
            folder = self._evaluation_folder()
            write_evaluation(folder, outputs, names)
        if wanted:
            explain = self.enable_interpretability
            examined, shap = look_at_model(self.model, loader, outputs, kept, self.names, explain)
            pages = ResultPages(folder, self.model_name, examined)
            if self.enable_visualization:
                self._generate_evaluation_plots(pages, metrics)
            if explain:
                self._generate_interpretability_analysis(pages, shap)
            self._say_why_no_images(write_images_of(pages.written))
        results = Results({**metrics, "predictions": outputs.predictions.tolist()})
        if outputs.task != "regression":
            results["classification_report"] = class_report(outputs, names)
        return results

    def eval_epoch(self, loader: Any, collect_embeddings: bool = False) -> dict[str, Any]:
        """Measure the model, write nothing; metric -> value, NaN where undefined.

        ``collect_embeddings`` adds what :meth:`CollectedSamples.arrays` has of each sample.
        """
        batches, collected = AnyLoader(loader, "loader"), CollectedSamples()
        asked = (collected,) if collect_embeddings else ()
        metrics, outputs = self._measure(self.model, batches, self._scaler, *asked)
        return {**metrics, **collected.arrays(outputs)} if collect_embeddings else metrics

    def _measure(
        self, model: nn.Module, loader: AnyLoader, scaler: TargetScaler | None, *listeners: Any
    ) -> tuple[dict[str, float], EpochOutputs]:
        """Evaluate a model whose values are standardised by ``scaler``, with listeners attached."""
        task = find_task(model.to(self.device), loader, self.device, self.task or self._task)
        loader.scaler = scaler
        self.names.check(task.outputs, loader.first())
        evaluator = self._evaluator(model, task, scaler)
        for listener in listeners:
            listener.attach(evaluator)
        metrics = evaluator.evaluate(loader)
        outputs = evaluator.metrics.outputs
        assert outputs is not None
        return metrics, outputs

    def compare_models(
        self, models: Mapping[str, nn.Module | EnhancedTrainer | Trainer], test_loader: Any
    ) -> pd.DataFrame:
        """Measure several models or trainers on the same samples, with this one's device and task.

        Returns one row per model; it is also written, with curves, to ``<save_dir>/comparison``.
        """
        plain: dict[str, nn.Module] = {}
        for name, thing in models.items():
            model = thing if isinstance(thing, nn.Module) else getattr(thing, "model", thing)
            if not isinstance(model, nn.Module):
                raise UsageError(f"compare_models: '{name}' is a {type(thing).__name__}, no model")
            plain[name] = model
        loader = AnyLoader(test_loader, "test_loader")
        trainers = [t for t in (*models.values(), self) if isinstance(t, EnhancedTrainer)]
        scalers = {id(trainer.model): trainer._scaler for trainer in trainers}
        table, outputs = compare(
            plain, lambda model: self._measure(model, loader, scalers.get(id(model)))
        )
        self._generate_comparison_plots(table, outputs)
        return table

    def _generate_training_visualizations(self) -> None:
        """The image beside ``training_curves.html``, which the training has written."""
        assert self.run_dir is not None
        assert self.trainer is not None
        if self.enable_visualization:
            figure = training_curves(self.trainer.history)
            image = self.run_dir / f"{CURVES}.png"
            self._say_why_no_images(write_images({image: [figure]}))

    def _generate_evaluation_plots(self, pages: ResultPages, metrics: Mapping[str, float]) -> None:
        """``evaluation_plots.html``: curves, counts, thresholds, t-SNE and attention."""
        pages.evaluation(metrics)

    def _generate_interpretability_analysis(
        self, pages: ResultPages, shap: list[Explained]
    ) -> None:
        """Attributions, embeddings in the plane, and attention."""
        self._analyze_feature_importance(pages, shap)
        pages.pca()
        self._analyze_attention_patterns(pages)

    def _analyze_feature_importance(self, pages: ResultPages, shap: list[Explained]) -> None:
        """``feature_importance.html`` and ``shap_analysis.html``."""
        pages.importance()
        pages.shap(shap)

    def _analyze_attention_patterns(self, pages: ResultPages) -> None:
        """``attention_analysis.html``."""
        pages.attention()

    def _generate_comparison_plots(
        self, table: pd.DataFrame, outputs: Mapping[str, EpochOutputs]
    ) -> None:
        """The table, ``model_comparison.html`` and ``roc_comparison.html``, and their images."""
        folder = self._claim("comparison")
        names = self.names.of_outputs(next(iter(outputs.values())))
        written, reason = write_comparison(table, outputs, folder, names)
        _tell(f"comparison: {', '.join(str(path) for path in written)}")
        self._say_why_no_images(reason)

    def save_model(self, path: str | Path | None = None) -> None:
        """Write the model's weights and the history; replaces a file when the new one is whole.

        The file opens with ``torch.load(weights_only=True)``. Without a path it is
        ``best_model.pt`` in the folder of the training, or of a new one.
        """
        if path is None:
            if self.run_dir is None:
                self.run_dir = self._claim(self.model_name)
            path = self.run_dir / BEST_MODEL
        others = {} if self._scaler is None else {SCALER: self._scaler.state_dict()}
        save_weights(self.model, as_path(path), history=self.history, task=self._task, **others)

    def load_model(self, path: str | Path | None = None) -> None:
        """Take weights and history from a file of :meth:`save_model` or of a checkpoint handler.

        Nothing in the file can run code; one that does not fit leaves the model as it was. Without
        a path it is ``best_model.pt`` in the folder of the training, or before one in
        ``<save_dir>/<model_name>``, which becomes the folder of evaluations.
        """
        folder = self.run_dir or self.save_dir / self.model_name
        file = folder / BEST_MODEL if path is None else as_path(path)
        others = load_weights(self.model, file)
        if path is None:
            self._say_what_else_there_is(file)
            self.run_dir = folder
        self.history, self._task = others.get("history", {}), others.get("task")
        self._scaler = self._log = None
        self._steps_on = False
        if SCALER in others:
            self._task, self._scaler = "regression", TargetScaler()
            self._scaler.load_state_dict(others[SCALER])

    def get_model_summary(self) -> dict[str, Any]:
        """Parameters, trainable ones, size in MB, and by module (:func:`summarise_model`)."""
        return summarise_model(self.model)

    def _claim(self, name: str) -> Path:
        folder = new_run_dir(self.save_dir, name)
        if folder.name != name:
            _tell(f"{self.save_dir / name} exists and is left as it is: writing to {folder}")
        return folder

    def _evaluation_folder(self) -> Path:
        """The training's folder; a further one within it for each further evaluation."""
        if self.run_dir is None:
            self.run_dir = self._claim(self.model_name)
        if not any((self.run_dir / name).exists() for name in FIRST):
            return self.run_dir
        folder = new_run_dir(self.run_dir, "evaluation")
        _tell(f"files of this evaluation: {folder}")
        return folder

    def _say_what_else_there_is(self, file: Path) -> None:
        found = sorted(self.save_dir.glob(f"*/{BEST_MODEL}"))
        beside = [p for p in found if p != file and is_named(p.parent, self.model_name)]
        if beside and self.run_dir is None:
            _tell(f"loaded {file}; there are also {', '.join(str(path) for path in beside)}")

    def _say_why_no_images(self, reason: str | None) -> None:
        if reason is not None and not self._said_why_no_images:
            self._said_why_no_images = True
            _tell(reason)


def _tell(line: str) -> None:
    """Print a line; a closed pipe or a full disk behind stdout does not end the training."""
    with suppress(OSError, ValueError):
        print(line, flush=True)
