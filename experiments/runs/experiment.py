"""One experiment: set up, train, validate, test, export."""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from ignite.engine import Events
from ignite.utils import manual_seed
from torch import Tensor, nn

from datasets.errors import UsageError
from datasets.loading import stop_workers
from datasets.summaries import WithSummary
from engine.checkpointing import deterministic_algorithms
from engine.distributed import (
    broadcast_from_main,
    full_state,
    is_main_process,
    is_sharded,
    raise_on_all_ranks,
    shard,
    world_size,
)
from engine.events import Phase, in_phase
from engine.metrics import TASKS, CustomMetric, EpochOutputs, rows_in_order
from engine.model_validation import validate_model
from engine.reporting import Results, with_bounds
from engine.statistics import Interval, bootstrap_intervals
from engine.trainer import Trainer
from experiments.analysis import (
    AUTOMATIC_SCANS,
    Outcome,
    TestAnalysis,
    TestSetAnalysis,
    as_plain,
    audit_cohort,
    check_audit,
    decide,
    read_audit,
)
from experiments.baselines import (
    Baselines,
    Leaderboard,
    choose_names,
    compare_run,
    start_baselines,
    stop_baselines,
)
from experiments.builders import (
    build_configured_optimizer,
    build_data,
    build_evaluator,
    build_handlers,
    build_model_and_loss,
    derive_budget,
    with_loaders,
)
from experiments.config import build_metrics
from experiments.launch import check_alike, own_device
from experiments.report import check_sections, content_of, render_report
from experiments.run_files import (
    FINISHED,
    RunFile,
    RunLock,
    changed_cohort,
    digest,
    new_run_dir,
    write_config,
)
from experiments.runs.export import export_run
from experiments.runs.member_weights import choose_weights
from experiments.runs.refit import (
    FITTED_ON,
    Selected,
    begin_refit,
    check_refit,
    load_selected,
    measured,
    refit_config,
    refuse_broken,
    selected_epoch,
)
from experiments.runs.refit import REFIT_FOLDER as REFIT
from experiments.runs.run_setup import (
    Continuation,
    find_continuation,
    resume_from,
    run_identity,
    tell_continuation,
    write_beginning,
)
from models import Weighted

if TYPE_CHECKING:
    from datasets.audit import Finding
    from engine.evaluator import Evaluator
    from engine.protocols import Handler
    from experiments.builders import Data, GivenCohort, RunHandlers
    from experiments.config import Config
    from models.classical import ClassicalModel

# Devices on which a training leaves no cores to baselines.
TAKE_THE_CORES = ("cpu",)

Stage = TypeVar("Stage", bound=Callable[..., Any])


def stage(method: Stage) -> Stage:
    """A stage of an experiment, deterministic if configured."""

    @functools.wraps(method)
    def run(self: Experiment, *args: Any, **kwargs: Any) -> Any:
        settings = self.config.trainer
        wanted = settings.deterministic
        with deterministic_algorithms(own_device(settings.device)) if wanted else nullcontext():
            return method(self, *args, **kwargs)

    return run  # type: ignore[return-value]


class Experiment(WithSummary):
    """One run of a configuration; each stage can be called from Python.

    ``run_dir`` is that of a cut run to continue; None starts a new run. :meth:`setup` makes the
    trainer, to which own handlers can be attached; those given as ``handlers`` are attached before
    a cut run is restored, and keep their state. After :meth:`test` there are ``results``
    (``val`` and ``test`` -> metrics), ``intervals`` of 95%, ``findings`` and, if enabled, the
    baselines with their ``leaderboard``. ``selected`` are the selected weights after a
    :meth:`refit`, whose model is tested instead. ``note`` is on what :meth:`export` left out,
    ``changed`` on a cohort that differs from that of the last run of this name. A ``given`` cohort
    replaces the configured one and its split.
    """

    # Whether epochs are printed and written for TensorBoard.
    watched = True
    trainer: Trainer
    evaluator: Evaluator
    tester: Evaluator
    examination: TestSetAnalysis
    data: Data
    metrics: list[str | CustomMetric]
    handlers: RunHandlers
    run_dir: Path

    def __init__(
        self,
        config: Config,
        run_dir: Path | None = None,
        given: GivenCohort | None = None,
        handlers: Sequence[Handler] = (),
    ) -> None:
        self.config = config
        self.resumed_from = run_dir
        self.given = given
        self.own_handlers = tuple(handlers)
        self.results: dict[str, dict[str, float]] = Results()
        self.intervals: dict[str, Interval] = {}
        self.outputs: dict[str, EpochOutputs] = {}
        self.findings = TestAnalysis()
        self._fits: dict[Sequence[str], Generator[ClassicalModel, None, None]] = {}
        self.selected: Selected | None = None
        self.baselines: Baselines | None = None
        self.leaderboard: Leaderboard | None = None
        self.baseline_outputs: dict[str, dict[str, EpochOutputs]] = {}
        self.audit: list[Finding] = []
        self.changed: str | None = None
        self.note: str | None = None
        self._member_weights: Tensor | None = None
        self._whole: dict[str, Any] | None = None  # of weights that processes share
        self._continuation: Continuation | None = None
        self._settings_used = run_dir is None  # and so written
        self._lock: RunLock | None = None

    def summary(self) -> dict[str, object]:
        """Name, model, and how far it has come."""
        found: dict[str, object] = {"name": self.config.exp_name, "model": self.config.model.title}
        if not hasattr(self, "handlers"):
            return {**found, "epoch": "not set up"}
        epochs = f"{self.trainer.state.epoch}/{self.config.trainer.max_epochs}"
        return {**found, "cohort": self.data.cohort.root.name, "epoch": epochs}

    def details(self) -> dict[str, object]:
        """The folder, and the metrics of the validation and test sets."""
        found: dict[str, object] = {"folder": self.run_dir} if hasattr(self, "run_dir") else {}
        for subset, metrics in self.results.items():
            known = self.intervals if subset == "test" else {}
            for name, value in metrics.items():
                found[f"{subset}/{name}"] = with_bounds(known.get(name, Interval(value)))
        return found

    def run(self) -> dict[str, dict[str, float]]:
        """All stages in order, unless a signal stops the training; returns the results."""
        try:
            self.setup()
            stages = (self.train, self.validate, self.refit, self.test, self.export)
            for each in stages:
                each()
                if self.exit_code is not None:
                    break
            return self.results
        finally:
            self.close()

    def close(self) -> None:
        """Release the lock of the run's folder and end the workers that read the data."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None
        self._close_workers()
        for fits in self._fits.values():
            stop_baselines(fits)
        self._fits = {}

    def _close_workers(self) -> None:
        if hasattr(self, "data"):
            for loader in self.data.loaders.values():
                stop_workers(loader)

    @property
    def member_weights(self) -> dict[str, float]:
        """The weight of each member of the model, if it has members, after :meth:`validate`."""
        model = self.trainer.model
        if self._member_weights is None or not isinstance(model, Weighted):
            return {}
        return dict(zip(model.member_names, self._member_weights.tolist(), strict=True))

    @property
    def exit_code(self) -> int | None:
        """Exit code of the process if a signal stopped the training."""
        return self.handlers.graceful_shutdown.exit_code

    @stage
    def setup(self) -> None:
        """Check everything, make the run's folder, attach the handlers.

        After a UsageError a new run's folder is removed; that of a continued run changes only when
        its training continues.
        """
        try:
            self._setup()
        except BaseException:
            self.close()
            raise

    def _setup(self) -> None:
        config, resumed = self.config, self.resumed_from
        device = own_device(config.trainer.device)
        if resumed:
            broadcast_from_main(lambda: self._take_lock(resumed))
            self._continuation = find_continuation(resumed, config)
        manual_seed(config.seed)
        splits = resumed / RunFile.SPLITS if resumed else None
        self.data = build_data(config, splits, given=self.given)
        check_alike(config, self.data.version.fingerprint)
        batches = len(self.data.loaders["train"])
        derive_budget(config, batches, self.data.val_groups(), continued=bool(resumed))
        task = self.data.cohort.task
        if "metrics" in config.derived():  # the data may be of several classes
            config.derive("metrics", list(TASKS[task].metrics))
        self.metrics = build_metrics(config.metrics, task, self.data.num_classes)
        check_sections(config.report.sections)
        if config.baselines.enabled:
            choose_names(self.data, config.baselines.models)
        self.audit = broadcast_from_main(lambda: read_audit(resumed) if resumed else self._audit())
        model, loss, loss_terms = self._build_model(device)
        self.run_dir = resumed or broadcast_from_main(self._new_run_dir)
        try:
            with raise_on_all_ranks():
                self._assemble(model, loss, loss_terms, device)
        except UsageError:
            if not resumed:
                # It is empty: handlers write when they run. All ranks wait until it is removed.
                self.close()
                broadcast_from_main(self.run_dir.rmdir)
            raise
        if self._continuation is None:
            broadcast_from_main(self._write_beginning)
        else:
            self._resume(self._continuation)

    def _take_lock(self, run_dir: Path) -> None:
        self.close()  # of an earlier set-up of this object
        self._lock = RunLock(run_dir)

    def _new_run_dir(self) -> Path:
        run_dir = new_run_dir(self.config.runs_dir, self.config.exp_name)
        self._take_lock(run_dir)
        return run_dir

    def _resume(self, continuation: Continuation) -> None:
        """Restore a cut run; its folder changes when the training continues."""
        trainer = self.trainer
        resume_from(trainer, continuation, self.handlers.checkpoint.meta)
        if not trainer.state.iteration:
            broadcast_from_main(self._compare_cohort)
        trainer.add_event_handler(Events.STARTED, self._tell_continuation)
        gone_on = Events.ITERATION_COMPLETED | Events.EPOCH_COMPLETED
        trainer.add_event_handler(gone_on, self._write_settings)

    @in_phase(Phase.DECIDE)  # after all that may still refuse to start, before the log's first line
    def _tell_continuation(self) -> None:
        assert self._continuation is not None
        tell_continuation(self.trainer, self._continuation)
        if is_main_process() and not self.trainer.state.iteration:
            self._tell_cohort()

    @in_phase(Phase.PREPARE)
    def _write_settings(self) -> None:
        """Write the settings of a continued run once it has trained with them."""
        if not self._settings_used:
            self._settings_used = True
            broadcast_from_main(lambda: write_config(self.run_dir, self.config))

    def _build_model(self, device: torch.device) -> tuple[nn.Module, Any, list[str]]:
        """The model, its loss, and the names of the loss's terms."""
        model, loss = build_model_and_loss(self.config, self.data, device)
        val = self.data.datasets["val"]
        # Two if possible: with one, a mean over the batch would have the right shape.
        first = self.data.loaders["val"].collate_fn([val[row] for row in range(min(2, len(val)))])
        loss_terms = validate_model(model, loss, first, self.data.num_classes, device)
        if world_size() > 1 and self.config.trainer.processes.strategy == "fsdp":
            shard(model, device)
        return model, loss, loss_terms

    def _assemble(
        self,
        model: nn.Module,
        loss: Any,
        loss_terms: list[str],
        device: torch.device,
        refit: bool = False,
    ) -> None:
        """Make the engines of a model, and attach the handlers."""
        config = refit_config(self.config) if refit else self.config
        optimizer = build_configured_optimizer(config.optimizer, model)
        run_dir = self.run_dir / REFIT if refit else self.run_dir
        self.trainer = Trainer(model, optimizer, loss, device, run_dir)
        cohort = self.data.cohort
        names = cohort.class_names
        self.evaluator, self.tester = (
            build_evaluator(model, loss, device, cohort.task, self.data.scaler, names, self.metrics)
            for _ in range(2)
        )
        self.handlers = build_handlers(
            config,
            self.trainer,
            self.evaluator,
            None if refit else self.data.loaders["val"],
            loss_terms,
            None if refit else self._page_so_far,
            self.watched,
        )
        if not refit:
            self.trainer.attach(*self.own_handlers)
        self.tester.precision = self.evaluator.precision
        self.examination = TestSetAnalysis(self.tester, self.config.report, self.run_dir, names)
        self.handlers.checkpoint.meta = run_identity(config, self.data, model)
        self.trainer.check_monitors()
        check_refit(config, self.trainer)

    def _page_so_far(self, trainer: Trainer, epochs: Sequence[Mapping[str, Any]]) -> str:
        """The run's page during training."""
        val = self.evaluator.metrics.outputs
        outputs = {}
        if val is not None:
            outputs["val"] = val.take(rows_in_order(val.sample_id, self.data.cohort.sample_ids))
        metrics = epochs[-1]["metrics"] if epochs else {}
        known = {name: metrics.get(f"val/{name}") for name in self.config.metric_names}
        found = {name: float(value) for name, value in known.items() if value is not None}
        outcome = self._outcome(results={"val": found}, outputs=outputs, audit=self.audit)
        return render_report(content_of(outcome, epochs=epochs))

    def _outcome(self, **found: Any) -> Outcome:
        state, parameters = self.trainer.state, self.trainer.model.parameters()
        return Outcome(
            run_dir=self.run_dir,
            config=self.config,
            data=self.data,
            epochs=state.epoch,
            optimizer_steps=state.optimizer_step,
            parameters=sum(p.numel() for p in parameters if p.requires_grad),
            **found,
        )

    def _audit(self) -> list[Finding]:
        """Audit the data before training."""
        if not self.config.audit.enabled:
            return []
        data = self.data
        found = audit_cohort(
            self.config, data.cohort, data.split, AUTOMATIC_SCANS, data.out_of_domain
        )
        check_audit(found)
        return found

    def _write_beginning(self) -> None:
        write_beginning(self.run_dir, self.config, self.data, self.audit)
        self._compare_cohort()
        self._tell_cohort()

    def _compare_cohort(self) -> None:
        self.changed = changed_cohort(self.run_dir, self.config.exp_name, self.data.version)

    def _tell_cohort(self) -> None:
        told = {"changed": self.changed} if self.changed else {}
        self.handlers.log.write("cohort_read", fingerprint=self.data.version.fingerprint, **told)

    @stage
    def train(self) -> None:
        """Train to the configured number of epochs, or until early stopping."""
        self.outputs.clear()  # of other weights than those to come
        self._start_baselines()
        self._fit()

    def _fit(self) -> None:
        epochs = self.config.trainer.max_epochs
        assert epochs is not None
        try:
            self.trainer.fit(self.data.loaders["train"], epochs)
        finally:
            self.handlers.close()

    def _start_baselines(self) -> None:
        """Fit the baselines in the background, where the training needs another device."""
        config, data = self.config, self.data
        wanted = config.baselines.enabled and is_main_process()
        beside = self.trainer.device.type not in TAKE_THE_CORES and data.fitted_on not in self._fits
        if wanted and beside:
            self._fits[data.fitted_on] = start_baselines(data, config.baselines, config.seed)

    def hand_over(self) -> None:
        """Gather sharded weights on rank 0 before the process group ends. Collective."""
        if is_sharded(self.trainer.model):
            self._whole = {
                name: full_state(thing.state_dict())
                for name, thing in measured(self.trainer, self.handlers)
            }

    @stage
    def go_on_alone(self) -> None:
        """Continue on rank 0 without the process group: all samples, all weights."""
        self.data = with_loaders(self.config, self.data)
        if self._whole is None:
            return
        former = self.trainer
        self._assemble(*self._build_model(former.device), former.device)
        for name, thing in measured(self.trainer, self.handlers):
            thing.load_state_dict(self._whole[name])
        self.trainer.state.epoch = former.state.epoch
        self.trainer.state.optimizer_step = former.state.optimizer_step
        self._whole = None

    @stage
    def validate(self) -> dict[str, float]:
        """Evaluate the best checkpoint on the validation set; a refit changes nothing of it."""
        if self.selected is None:
            self.outputs.pop("val", None)
            self._validate_selected()
        return self.results["val"]

    @stage
    def refit(self) -> None:
        """Train anew on the training and validation sets, if ``trainer.refit`` asks for it.

        All is fitted anew, with the same seed, settings and schedule, for as many epochs as up to
        the selected one. Then ``trainer`` and ``data`` are the refit's, whose model is tested.
        """
        if not self.config.trainer.refit or self.selected is not None:
            return
        self._validate_selected()
        epochs = selected_epoch(self.run_dir, self.trainer)
        weights = self.handlers.averaged_weights
        test = {}
        if "test" in self.data.loaders:
            test = self.evaluator.evaluate(self.data.loaders["test"], weights)
        self.selected = Selected(epochs, self.data, test)
        log, device = self.handlers.log, self.trainer.device
        self._close_workers()
        manual_seed(self.config.seed)
        chosen = self.data.chosen
        splits = self.run_dir / RunFile.SPLITS
        self.data = build_data(self.config, splits, FITTED_ON, self.given)
        self.data = replace(self.data, chosen=chosen)
        self._assemble(*self._build_model(device), device, refit=True)
        trainer, checkpoint = self.trainer, self.handlers.checkpoint
        self.handlers = replace(self.handlers, log=log)
        whole = [run_identity(self.config, self.data, trainer.model), epochs]
        checkpoint.meta = {"refit": digest(whole)}
        begin_refit(trainer, self.run_dir / REFIT, checkpoint.meta, epochs)
        self._start_baselines()
        if trainer.epochs_done() < epochs:
            self._fit()
        refuse_broken(trainer.model, "the refit diverged", "although the selected weights are")
        self._weigh_members(choose=False)

    @stage
    def test(self) -> dict[str, float]:
        """Evaluate the best checkpoint, or the refitted model, on the test set.

        Thresholds and a temperature are chosen on the validation set, which is evaluated first
        unless :meth:`validate` was called; with a refit by the weights that were selected.
        """
        self._validate_selected()
        weights = self.handlers.averaged_weights
        results, found = self.examination.measure(self.data.loaders["test"], weights)
        rows = self._keep("test", self.tester, results)
        cohort, report = self.data.cohort, self.config.report
        if report.resamples:
            self.intervals = bootstrap_intervals(
                self.outputs["test"],
                self.data.groups_of(self.outputs["test"].sample_id),
                self.config.metric_names,
                report.resamples,
                seed=self.config.seed,
            )
        decisions, calibration = decide(self.outputs, cohort.class_names, report.threshold)
        self.findings = replace(found.take(rows), decisions=decisions, calibration=calibration)
        if self.config.baselines.enabled:
            self.baselines, self.leaderboard, self.baseline_outputs = compare_run(
                self.config,
                self.selected.data if self.selected else self.data,
                self.outputs,
                self.data if self.selected else None,
                self._fits,
            )
            self._fits = {}
        self._write_settings()  # of a continued run that had nothing left to train
        told: dict[str, Any] = {
            "metrics": results,
            "intervals": {name: [of.low, of.high] for name, of in self.intervals.items()},
            "interval_methods": {name: of.method for name, of in self.intervals.items()},
            **as_plain(decisions, calibration),
        }
        if self.selected:
            metrics = dict(self.selected.test)
            told["selected"] = {"epochs": self.selected.epochs, "metrics": metrics}
        if self.member_weights:
            told["member_weights"] = self.member_weights
        if self.leaderboard:
            told["baselines"] = self.leaderboard.as_plain()
        self.handlers.log.write_once("test_completed", **told)
        return results

    @stage
    def export(self) -> Path:
        """Write tables, weights, pages and the package; returns the page, or the run's folder."""
        with self.handlers.averaged_weights():
            saved = self.trainer.model.state_dict()
            weights = {name: tensor.detach().clone() for name, tensor in saved.items()}
        outcome = self._outcome(
            results=self.results,
            intervals=self.intervals,
            outputs=self.outputs,
            findings=self.findings,
            audit=self.audit,
            baselines=self.baselines,
            leaderboard=self.leaderboard,
            baseline_outputs=self.baseline_outputs,
            selected_test=self.selected.test if self.selected else {},
            member_weights=self.member_weights,
        )
        page, self.note = export_run(outcome, weights)
        self.handlers.log.write_once(FINISHED)
        return page

    def _validate_selected(self) -> None:
        if self.selected is not None:
            return
        self.handlers = load_selected(self.run_dir, self.trainer, self.handlers)
        chosen = "val" in self.outputs
        self._weigh_members(choose=not chosen)
        if not chosen:
            weights = self.handlers.averaged_weights
            metrics = self.evaluator.evaluate(self.data.loaders["val"], weights)
            self._keep("val", self.evaluator, metrics)

    def _weigh_members(self, choose: bool) -> None:
        """Weigh the members of a model that has some; the weights are chosen once."""
        model = self.trainer.model
        if not isinstance(model, Weighted):
            return
        if choose:
            choose_weights(self.config, self.data, model, self.evaluator, self.handlers)
            self._member_weights = model.member_weights.clone()
        assert self._member_weights is not None
        model.member_weights.copy_(self._member_weights)

    def _keep(self, subset: str, evaluator: Evaluator, metrics: dict[str, float]) -> list[int]:
        """Keep the outputs in the cohort's order; returns the rows that brought them into it."""
        outputs = evaluator.metrics.outputs
        assert outputs is not None
        rows = rows_in_order(outputs.sample_id, self.data.cohort.sample_ids)
        self.results[subset], self.outputs[subset] = metrics, outputs.take(rows)
        return rows
