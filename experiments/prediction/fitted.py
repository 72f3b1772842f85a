"""What a run fitted on its training set, and new samples as its model takes them."""

from __future__ import annotations

import io
import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from datasets.cohort import TargetScaler
from datasets.covariates import CovariateEncoder
from datasets.errors import CohortError, UsageError, one_line, refused
from datasets.loading import SpectraDataset
from datasets.transforms import Compose
from engine.metrics import CLASSES
from experiments.builders import configured_transforms
from experiments.config import Config, check_config, read_yaml
from experiments.run_files import RunFile

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from datasets.transforms import AxisMap
    from experiments.prediction.model_files import ModelFiles

# What reading tensors that were changed, or cut off, can raise.
DAMAGE = (RuntimeError, LookupError, TypeError, AttributeError, EOFError, pickle.UnpicklingError)


@dataclass(frozen=True)
class NewCohort:
    """A cohort whose samples a model can predict.

    ``axis_map`` brings its scans onto the model's axis, None where they are on it; ``absent`` are
    ``spectra`` or ``covariates`` that it lacks, or that the model does not read. ``targets`` are as
    in :class:`experiments.prediction.Predictions`; ``notes`` are lines on what was imputed,
    resampled or could not be checked.
    """

    cohort: Cohort
    axis_map: AxisMap | None = None
    absent: Sequence[str] = ()
    targets: np.ndarray | None = None
    notes: Sequence[str] = ()


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
        has_resolved = files.read(RunFile.RESOLVED) is not None
        path = files.where / (RunFile.RESOLVED if has_resolved else RunFile.CONFIG)
        with refused(f"{path} is not as a run writes it", UnicodeDecodeError):
            text = files.require(path.name).decode()
        config = check_config(read_yaml(text, str(path)))
        try:
            content = io.BytesIO(files.require(RunFile.PREPROCESSING))
            plain = torch.load(content, weights_only=True)
            encoder = CovariateEncoder.from_state_dict(plain["covariates"])
            own = plain["transforms"]
            transforms = configured_transforms(config.data) if own["names"] else Compose([])
            transforms.load_state_dict(own)
            targets = plain.get("targets")
            scaler = TargetScaler.from_state_dict(targets) if targets else None
            fitted = cls(config, encoder, transforms, scaler, plain)
            # Not where they are needed first, which may be later.
            _ = fitted.task, fitted.class_names, fitted.axis
        except DAMAGE as error:
            raise UsageError(
                f"{files.where}: {RunFile.PREPROCESSING} is not as a run writes it: "
                f"{one_line(error) or type(error).__name__}"
            ) from error
        return fitted

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
