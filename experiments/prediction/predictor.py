"""One trained network, or a fitted baseline, with what was fitted beside it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from ignite.engine import Events
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from datasets.errors import UsageError, one_line
from datasets.loading import stop_workers
from engine.checkpointing import deterministic_algorithms
from engine.metrics import EpochOutputs, rows_in_order
from experiments.baselines import load_baselines
from experiments.builders import (
    build_evaluator,
    build_network,
    evaluation_loader,
    hide_modality,
    used_modalities,
)
from experiments.launch import own_device
from experiments.prediction.fitted import Fitted
from experiments.run_files import RunFile
from handlers.mixed_precision import MixedPrecision

if TYPE_CHECKING:
    from experiments.baselines import Baselines
    from experiments.prediction.fitted import NewCohort
    from experiments.prediction.model_files import ModelFiles

# Mean spectra that are in memory at once.
MEAN_BYTES = 64 * 2**20
Progress = Callable[[int], object]


class NetworkPredictor:
    """A trained network; its batches are those of the run's evaluator."""

    def __init__(self, files: ModelFiles, device: str | None = None) -> None:
        fitted = Fitted.read(files)
        config = fitted.config
        if device is not None:
            trainer = config.trainer.model_copy(update={"device": device})
            config = config.model_copy(update={"trainer": trainer})
        self.fitted = replace(fitted, config=config)
        spec_len = fitted.transforms.spec_len
        assert spec_len is not None
        sizes = {
            "tab_dim": len(fitted.encoder.feature_names),
            "spec_len": spec_len,
            "num_classes": len(fitted.class_names),
        }
        self.model = build_network(config.model, sizes, fitted.task)
        try:
            self.model.load_state_dict(load(files.require(RunFile.WEIGHTS)))
        except (RuntimeError, SafetensorError) as error:
            raise UsageError(
                f"{files.where}: the weights do not fit {RunFile.CONFIG}: {one_line(error)}"
            ) from error
        try:
            self.device = own_device(config.trainer.device)
        except UsageError as error:
            raise UsageError(f"{error}; --device chooses another one") from error
        names = fitted.class_names
        self.evaluator = build_evaluator(
            self.model, _no_loss, self.device, fitted.task, fitted.scaler, names, metrics=()
        )
        MixedPrecision(config.trainer.precision).attach(self.evaluator)

    @property
    def reads(self) -> set[str]:
        """What the network reads of a sample."""
        return used_modalities(self.fitted.config.model, self.fitted.task) & self.fitted.modalities

    @property
    def does_without(self) -> set[str]:
        """The modalities that it was trained to do without, one at a time."""
        return self.reads if len(self.reads) > 1 and hide_modality(self.model, None) else set()

    def outputs(
        self, new: NewCohort, rows: np.ndarray, progress: Progress | None = None
    ) -> EpochOutputs:
        """The outputs of some samples, in the order of ``rows``; targets are 0.

        ``progress`` is called with the number of samples of each batch.
        """
        dataset = self.fitted.dataset(new, rows)
        hide_modality(self.model, next(iter(self.reads & set(new.absent)), None))
        loader = evaluation_loader(self.fitted.config, dataset)
        wanted = self.fitted.config.trainer.deterministic
        evaluator = self.evaluator

        def step() -> None:
            if progress is not None:
                progress(len(evaluator.state.batch.sample_id))

        handle = evaluator.add_event_handler(Events.ITERATION_COMPLETED, step)
        try:
            with deterministic_algorithms(self.device) if wanted else nullcontext():
                evaluator.evaluate(loader)
        finally:
            handle.remove()
            stop_workers(loader)
        found = evaluator.metrics.outputs
        assert found is not None
        return found.take(rows_in_order(found.sample_id, dataset.sample_ids))


def _no_loss(outputs: Mapping[str, Tensor], target: Tensor) -> dict[str, Tensor]:
    """New samples have no targets."""
    return {"total_loss": outputs["logits"].new_zeros(())}


class BaselinePredictor:
    """A fitted classical model, or the fusion of two."""

    def __init__(self, files: ModelFiles) -> None:
        self.fitted = Fitted.read(files)
        self.baselines: Baselines = load_baselines(files.where)
        self.name = self.baselines.names[-1]  # the fusion, where there is one

    @property
    def reads(self) -> set[str]:
        """What the model reads of a sample."""
        return {model.recipe.modality for model in self.baselines.models.values()}

    @property
    def does_without(self) -> set[str]:
        """None: it was trained with all that it reads."""
        return set()

    def outputs(
        self, new: NewCohort, rows: np.ndarray, progress: Progress | None = None
    ) -> EpochOutputs:
        """As those of a :class:`NetworkPredictor`."""
        fitted = self.fitted
        dataset = fitted.dataset(new, rows)
        size = max(1, dataset.spec_len) * np.dtype(np.float32).itemsize
        step = max(1, MEAN_BYTES // size)
        logits = []
        for start in range(0, len(rows), step):
            part = np.arange(start, min(start + step, len(rows)))
            spectra = np.empty((len(part), 0), dtype=np.float32)
            if "spectra" in self.reads:
                spectra = dataset.mean_scans(part)
            logits.append(self.baselines.logits(spectra, dataset.tabular[part])[self.name])
            if progress is not None:
                progress(len(part))
        targets = fitted.class_names if fitted.task == "regression" else ()
        target = torch.from_numpy(dataset.targets)
        named = dataset.sample_ids
        return EpochOutputs(torch.cat(logits), target, named, {}, fitted.task, targets=targets)
