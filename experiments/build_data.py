"""From the ``data`` section to loaders: nothing that is fitted sees more than the training part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datasets.augmentations import AUGMENTATIONS, make_augmentations
from datasets.cohort import Cohort
from datasets.covariates import CovariateEncoder
from datasets.errors import CohortError
from datasets.loader import make_loader
from datasets.simulate import GENERATOR_VERSION, simulate_cohort
from datasets.spectra_dataset import SpectraDataset
from datasets.split import make_split, read_splits
from datasets.target_scaler import TargetScaler
from datasets.targets import AUTO, SEVERAL_COLUMNS, summarise_targets
from datasets.transforms import TRANSFORMS, Compose, make_transforms
from experiments.config import Config, DataConfig, Named
from experiments.named import find_named

SIDES = ("train", "val", "test")
# Evaluation keeps no activations for a backward pass, so that larger batches fit.
EVALUATION_BATCH_FACTOR = 2


@dataclass(frozen=True)
class Data:
    """A cohort, made ready to train on.

    Attributes:
        cohort: As it was read.
        split: ``train``, ``val`` or ``test`` for each sample, [N].
        encoder: Fitted on the training part.
        transforms: Fitted on the training scans.
        scaler: Of values to regress, fitted on the training part; None of classes and labels.
        datasets: One a side.
        loaders: One a side; only training shuffles and augments.
    """

    cohort: Cohort
    split: np.ndarray
    encoder: CovariateEncoder
    transforms: Compose
    scaler: TargetScaler | None
    datasets: dict[str, SpectraDataset]
    loaders: dict[str, DataLoader[Any]]

    @property
    def num_classes(self) -> int:
        """C, the width of the logits: as many as there are classes, labels or values."""
        return len(self.cohort.class_names)

    @property
    def tab_dim(self) -> int:
        """D, the width of the encoded covariates."""
        return len(self.encoder.feature_names)

    def train_targets(self) -> Tensor:
        """Class numbers [N_train] or labels [N_train, T] of the training part."""
        return torch.from_numpy(self.cohort.targets[self.split == "train"])

    def describe(self) -> list[str]:
        """Lines for a person."""
        counts = self.cohort.describe().splitlines()
        for side in SIDES:
            chosen = self.split == side
            targets = summarise_targets(
                self.cohort.task, self.cohort.targets[chosen], self.cohort.class_names
            )
            groups = len(np.unique(self.cohort.groups[chosen]))
            counts.append(f"{side:<5} {chosen.sum():>6} samples in {groups} groups ({targets})")
        return counts


def default_cache_dir() -> Path:
    """Where the embedded cohort is written, by the XDG convention."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scanfire"


def read_cohort(config: DataConfig) -> Cohort:
    """Read the configured cohort, or write (once) and read the embedded one."""
    root, labels = config.root, config.labels
    if root is None:
        wanted = config.simulated
        folder = config.cache_dir or default_cache_dir()
        name = f"simulated-v{GENERATOR_VERSION}-n{wanted.n_samples}-seed{wanted.seed}"
        simulated = simulate_cohort(folder / name, seed=wanted.seed, n_samples=wanted.n_samples)
        root = simulated.root
        if config.label in (None, "label") and config.task not in SEVERAL_COLUMNS:
            # In their own order, controls are class 0 and cases, the positive ones, class 1.
            labels = labels or {name: number for number, name in enumerate(simulated.classes)}
    return Cohort.read(
        root,
        labels=labels,
        label=config.label,
        group=config.group,
        numeric=config.numeric,
        categorical=config.categorical,
        task=config.task,
    )


def build_data(config: Config, splits_file: Path | None = None) -> Data:
    """Read, split, fit on the training part, and make the loaders.

    Args:
        config: The whole configuration.
        splits_file: A resumed run's own ``splits.csv``; wins over the configuration.

    Raises:
        UsageError: Something about the cohort or the choices made about it cannot be used.
    """
    settings = config.data
    transforms = make_transforms(_find_each(settings.transforms, TRANSFORMS, "data.transforms"))
    augmentations = make_augmentations(
        _find_each(settings.augmentations, AUGMENTATIONS, "data.augmentations")
    )
    cohort = read_cohort(settings)

    split = _split(cohort, settings, splits_file or settings.split.file)
    train = split == "train"
    encoder = CovariateEncoder(
        cohort.numeric,
        cohort.categorical,
        log=settings.log,
        missing_indicators=settings.missing_indicators,
    )
    encoder.fit(cohort.samples[train])
    tabular = encoder.transform(cohort.samples)
    rows = [cohort.scan_rows[i] for i in np.flatnonzero(train)]
    transforms.fit(cohort.spectra, np.concatenate(rows))
    scaler, targets = None, cohort.targets
    if cohort.task == "regression":
        scaler = TargetScaler().fit(cohort.targets[train])
        targets = scaler.standardize(cohort.targets)

    datasets, loaders = {}, {}
    for side in SIDES:
        chosen = np.flatnonzero(split == side)
        datasets[side] = SpectraDataset(
            cohort.spectra,
            [cohort.scan_rows[i] for i in chosen],
            tabular[chosen],
            targets[chosen],
            [cohort.sample_ids[i] for i in chosen],
            transforms=transforms,
            augmentations=augmentations if side == "train" else (),
            seed=config.seed,
        )
        loaders[side] = make_loader(
            datasets[side],
            config.trainer.batch_size * (1 if side == "train" else EVALUATION_BATCH_FACTOR),
            shuffle=side == "train",
            seed=config.seed,
            num_workers=settings.num_workers,
            pin_memory=torch.cuda.is_available() and config.trainer.device != "cpu",
        )
    return Data(cohort, split, encoder, transforms, scaler, datasets, loaders)


def _split(cohort: Cohort, settings: DataConfig, file: Path | None) -> np.ndarray:
    """Read the split, or draw one."""
    if file is not None:
        return read_splits(
            file, cohort.sample_ids, cohort.groups, cohort.targets, cohort.class_names
        )
    if settings.task == AUTO and _are_values(cohort):
        raise CohortError(
            f"the label holds {len(cohort.class_names)} different numbers in "
            f"{len(cohort.sample_ids)} samples, too many for classes; to regress them set "
            "data.task to regression"
        )
    return make_split(
        cohort.targets,
        cohort.groups,
        fractions=settings.split.fractions,
        seed=settings.split.seed or 0,
        class_names=cohort.class_names,
    )


def _are_values(cohort: Cohort) -> bool:
    """Whether classes are numbers, and too many for each to be on every side."""
    if len(cohort.class_names) * len(SIDES) <= len(cohort.sample_ids):
        return False
    return all(_is_number(name) for name in cohort.class_names)


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _find_each(specs: Sequence[str | Named], known: Mapping[str, Any], key: str) -> list[Any]:
    """Short names as they are; dotted paths replaced by what they import."""
    found = []
    for number, spec in enumerate(specs):
        named = Named(name=spec) if isinstance(spec, str) else spec
        choice = find_named(named.name, known, f"{key}.{number}") if "." in named.name else None
        found.append({"name": choice or named.name, "params": named.params})
    return found
