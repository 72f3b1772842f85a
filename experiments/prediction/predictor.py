"""One trained network, or a fitted baseline, with what was fitted beside it."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from ignite.engine import Events
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from datasets.cohort import TargetScaler
from datasets.covariates import CovariateEncoder
from datasets.errors import CohortError, UsageError, one_line
from datasets.loading import SpectraDataset, stop_workers
from datasets.transforms import Compose
from engine.checkpointing import deterministic_algorithms
from engine.metrics import CLASSES, EpochOutputs, rows_in_order
from experiments.baselines import load_baselines
from experiments.builders import (
    build_evaluator,
    build_network,
    configured_transforms,
    evaluation_loader,
    hide_modality,
    used_modalities,
)
from experiments.config import Config, check_config, read_yaml
from experiments.launch import own_device
from experiments.run_files import RunFile
from handlers.mixed_precision import MixedPrecision

if TYPE_CHECKING:
    from datasets.transforms import AxisMap
    from experiments.baselines import Baselines
    from experiments.prediction.model_files import ModelFiles
    from experiments.prediction.new_cohort import NewCohort

# Mean spectra that are in memory at once.
MEAN_BYTES = 64 * 2**20
Progress = Callable[[int], object]


class Intake:
    """New scans as the model takes them: finite, on its axis, transformed."""

    def __init__(self, transforms: Compose, axis_map: AxisMap | None) -> None:
        self.transforms, self.axis_map = transforms, axis_map

    @property
    def spec_len(self) -> int | None:
        """L, points of a transformed scan."""
        return self.transforms.spec_len

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]; CohortError where one is not finite."""
        if not np.isfinite(scans).all():
            raise CohortError("the spectra hold NaN or infinite intensities")
        return self.transforms(scans if self.axis_map is None else self.axis_map(scans))


@dataclass(frozen=True)
class Fitted:
    """What a run fitted on its training set, and its settings."""

    config: Config
    encoder: CovariateEncoder
    transforms: Compose
    scaler: TargetScaler | None
    plain: Mapping[str, Any]

    @classmethod
    def read(cls, files: ModelFiles) -> Fitted:
        """From a run's files; UsageError where they do not fit together."""
        path = files.where / RunFile.CONFIG
        text = files.require(RunFile.RESOLVED, RunFile.CONFIG).decode()
        config = check_config(read_yaml(text, str(path)))
        try:
            content = io.BytesIO(files.require(RunFile.PREPROCESSING))
            plain = torch.load(content, weights_only=True)
            encoder = CovariateEncoder.from_state_dict(plain["covariates"])
            own = plain["transforms"]
            transforms = configured_transforms(config.data) if own["names"] else Compose([])
            transforms.load_state_dict(own)
            scaler = None
            if "targets" in plain:
                scaler = TargetScaler()
                scaler.load_state_dict(plain["targets"])
        except (RuntimeError, KeyError, TypeError, EOFError) as error:
            raise UsageError(
                f"{files.where}: {RunFile.PREPROCESSING} is not as a run writes it: "
                f"{one_line(error)}"
            ) from error
        return cls(config, encoder, transforms, scaler, plain)

    @property
    def task(self) -> str:
        """A key of ``engine.metrics.TASKS``."""
        return str(self.plain["task"])

    @property
    def class_names(self) -> list[str]:
        """Of classes, labels or values."""
        return list(self.plain["class_names"])

    @property
    def modalities(self) -> set[str]:
        """What there was to train on."""
        has = {"spectra": len(self.axis) > 0, "covariates": bool(self.encoder.feature_names)}
        return {modality for modality, there in has.items() if there}

    @property
    def axis(self) -> np.ndarray:
        """Positions of the points before the transforms, [L]; L = 0 without spectra."""
        axis: Tensor = self.plain["transforms"]["axis"]
        return axis.numpy()

    def dataset(self, new: NewCohort, rows: np.ndarray) -> SpectraDataset:
        """Some samples of a checked cohort as the model's input; their targets are 0.

        An absent modality is zeros.
        """
        cohort, count = new.cohort, len(rows)
        shape = count if self.task in CLASSES else (count, len(self.class_names))
        spectra, scan_rows = cohort.spectra, [cohort.scan_rows[row] for row in rows]
        transforms: Intake | None = Intake(self.transforms, new.axis_map)
        if "spectra" in new.absent:
            spectra = np.zeros((1, self.transforms.spec_len or 0), dtype=np.float32)
            scan_rows, transforms = [np.zeros(1, dtype=np.int64)] * count, None
        tabular = np.zeros((count, len(self.encoder.feature_names)), dtype=np.float32)
        if "covariates" not in new.absent:
            tabular = self.encoder.transform(cohort.samples.iloc[rows])
        return SpectraDataset(
            spectra,
            scan_rows,
            tabular,
            np.zeros(shape, dtype=np.int64 if self.task in CLASSES else np.float32),
            [cohort.sample_ids[row] for row in rows],
            transforms=transforms,
            cache=False,
        )


class NetworkPredictor:
    """A trained network; its batches are those of the run's evaluator."""

    def __init__(self, files: ModelFiles, device: str | None = None) -> None:
        self.fitted = Fitted.read(files)
        fitted, config = self.fitted, self.fitted.config
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
        self.device = own_device(device or config.trainer.device)
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
