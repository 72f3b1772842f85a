"""Attributions of a model's scores, computed in an evaluation or when training ends."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from ignite.engine import Events
from torch import Tensor
from tqdm import tqdm

from datasets.errors import UsageError
from datasets.specs import optional_whole, require_choice
from engine.checkpointing import preserve_rng_state
from engine.distributed import alone, require_unsharded
from engine.evaluator import Evaluator
from engine.events import Phase, in_phase
from engine.explain import (
    METHODS,
    ROWS,
    SCORES,
    STEPS,
    WINDOW,
    Explained,
    Importance,
    Options,
    OutputsExplainer,
    explain_outputs,
    importance_of,
    write_explained,
)
from engine.metrics import order_of
from engine.protocols import SavedAttributes
from engine.trainer import Trainer

FILE_NAME = "attributions.safetensors"
# Means over so many hardly move any more; with steps to spare a minute on two cores.
MOST_SAMPLES = 500


class Attribution(SavedAttributes):
    """Attributions by points of the scans, by scans and by covariates.

    Of classes the predicted one is explained; several labels or values are explained one by one,
    the first ``engine.explain.attribution.MOST_OUTPUTS``: ``sets`` holds one set for each.

    Attached to an evaluator it explains the evaluated samples. Attached to a trainer it explains
    the samples of ``loader`` (in a configuration the validation set) when training ends, and with
    ``every`` also after every so many epochs (``history``: rows of ``epoch``, the fields of
    :class:`engine.explain.Importance`, and of several outputs ``output``). A run that was stopped
    within an epoch explains nothing; the resumed one will. Training goes on unchanged. Rank 0
    explains the samples of its own loader.

    Writes ``attributions.safetensors`` (:func:`engine.explain.read_explained`) and announces
    ``attributions_computed``. Memory: S x L x 4 bytes for a sample of S scans of L points, bounded
    by ``max_samples``; twice that with ``keep_intensities``, for the directions of regions
    (:func:`engine.explain.top_windows`).

    ``score``, ``baseline`` and so on are those of :class:`engine.explain.Options`; a score of None
    is the log-odds of classes, and of labels and values the output. ``measured_weights`` is a
    context in which the model holds the weights to explain, such as ``EMA.averaged_weights``.
    """

    phase = Phase.REPORT
    saved = ("history",)
    first_process_only = True

    def __init__(
        self,
        method: str = "integrated_gradients",
        loader: Iterable[Any] | None = None,
        *,
        target: int | None = None,
        score: str | None = None,
        max_samples: int | None = MOST_SAMPLES,
        every: int | None = None,
        baseline: tuple[Tensor, Tensor] | None = None,
        steps: int = STEPS,
        rows: int = ROWS,
        window: int = WINDOW,
        per_scan: bool = False,
        references: Any = None,
        keep_intensities: bool = False,
        output_names: Sequence[str] = (),
        path: str | Path | None = None,
        measured_weights: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        self.method = require_choice("attribution.method", method, METHODS)
        self.loader = loader
        self.target = optional_whole("attribution.target", target)
        self.max_samples = optional_whole("attribution.max_samples", max_samples, 1)
        self.every = optional_whole("attribution.every", every, 1)
        self.output_names = list(output_names)
        self.path = None if path is None else Path(path)
        self.measured_weights = measured_weights
        checked = Options(score or SCORES[0], baseline, references, steps, rows, window, per_scan)
        self.options = {**vars(checked), "score": score, "keep_intensities": keep_intensities}
        self.history: list[dict[str, Any]] = []
        self.sets: list[Explained] = []

    @property
    def explained(self) -> Explained | None:
        """The attributions sample by sample, or None; UsageError for several outputs."""
        if len(self.sets) > 1:
            found = f"{len(self.sets)} outputs were explained, each by itself"
            raise UsageError(f"attribution: {found}; take one of sets")
        return self.sets[0] if self.sets else None

    @property
    def importance(self) -> Importance:
        """The attributions by point, by covariate and by scan, over all samples."""
        explained = self.explained
        if explained is None:
            raise UsageError("attribution: nothing has been explained yet")
        return importance_of(explained)

    def attach(self, engine: Trainer | Evaluator) -> None:
        """Listen to a trainer's epochs and end, or to an evaluator's steps."""
        if isinstance(engine, Evaluator):
            engine.add_event_handler(Events.STARTED, self.start)
            engine.add_event_handler(Events.ITERATION_COMPLETED, self)
            engine.add_event_handler(Events.COMPLETED, self.finish)
            return
        if self.loader is None:
            raise UsageError("attribution.loader: name the samples to explain when training ends")
        require_unsharded(engine.model, "attribution")
        if self.path is None and engine.run_dir is not None:
            self.path = Path(engine.run_dir) / "report" / FILE_NAME
        engine.register_state("attribution", self)
        if self.target is not None:
            engine.add_event_handler(Events.STARTED, self.check_target, phase=Phase.PREPARE)
        if self.every is not None:
            engine.add_event_handler(Events.EPOCH_COMPLETED, self.follow)
        engine.add_event_handler(Events.COMPLETED, self.conclude)

    def start(self, evaluator: Evaluator) -> None:
        """Forget an earlier evaluation's samples."""
        self.sets = []
        self._bar = self._new_bar(evaluator.state.dataloader)
        self._explainer = OutputsExplainer(
            evaluator.model,
            self.target,
            method=self.method,
            max_samples=self.max_samples,
            progress=self._bar.update,
            order=order_of(evaluator.state.dataloader),
            **self.options,
        )

    def __call__(self, evaluator: Evaluator) -> None:
        """Explain the batch that was evaluated."""
        self._explainer.add(evaluator.state.batch)

    def finish(self) -> None:
        """Join the batches' attributions, and write them where a path was given."""
        self._bar.close()
        self.sets = self._explainer.explained()
        if self.path is not None:
            write_explained(self.sets, self.path, self.output_names)

    def check_target(self, trainer: Trainer) -> None:
        """Refuse a target that the model does not have, before training."""
        self._explain(trainer, max_samples=1)

    @in_phase(Phase.RECORD)
    def follow(self, trainer: Trainer) -> None:
        """Add this epoch to the history, before its checkpoint is saved."""
        if self.every is None or trainer.state.epoch % self.every:
            return
        sets = self._explain(trainer, self.max_samples)
        for explained in sets:
            found = importance_of(explained)
            row = {name: value for name, value in vars(found).items() if value is not None}
            if len(sets) > 1:
                row["output"] = int(explained.target[0])
            self.history.append({"epoch": trainer.state.epoch, **row})

    def conclude(self, trainer: Trainer) -> None:
        """Explain the trained model, write the file and log it."""
        state = trainer.state
        if state.open_epoch is not None or state.iteration % (state.epoch_length or 1):
            return
        began = time.perf_counter()
        self.sets = self._explain(trainer, self.max_samples)
        fields: dict[str, Any] = {"method": self.method, "samples": len(self.sets[0].sample_id)}
        if len(self.sets) > 1:
            fields["outputs"] = len(self.sets)
        fields["seconds"] = round(time.perf_counter() - began, 1)
        if self.path is not None:
            write_explained(self.sets, self.path, self.output_names)
            fields["path"] = str(self.path)
        trainer.log_event("attributions_computed", **fields)

    def _explain(self, trainer: Trainer, max_samples: int | None) -> list[Explained]:
        assert self.loader is not None
        with (
            alone(),
            preserve_rng_state(),
            self.measured_weights(),
            self._new_bar(self.loader) as bar,
        ):
            return explain_outputs(
                trainer.model,
                self.loader,
                self.target,
                method=self.method,
                device=trainer.device,
                max_samples=max_samples,
                progress=bar.update,
                **self.options,
            )

    def _new_bar(self, loader: Any) -> tqdm[Any]:
        """A bar that counts samples, on a terminal only."""
        known = [len(loader.dataset)] if hasattr(loader, "dataset") else []
        known += [] if self.max_samples is None else [self.max_samples]
        return tqdm(
            total=min(known, default=None),
            desc="explaining",
            unit=" samples",
            disable=None,
            leave=False,
        )
