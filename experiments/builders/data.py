"""From the ``data`` section to loaders: nothing that is fitted sees more than the training part."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader

from datasets.augmentations import AUGMENTATIONS, make_augmentations
from datasets.cohort import (
    SEVERAL_COLUMNS,
    SPECTRA_FILE,
    ChecksumCache,
    Cohort,
    TargetScaler,
    summarise_targets,
)
from datasets.covariates import CovariateEncoder
from datasets.loading import SpectraDataset
from datasets.simulation import GENERATOR_VERSION, simulate_cohort
from datasets.splits import SUBSETS
from datasets.transforms import (
    TRANSFORMS,
    Compose,
    OutOfDomain,
    find_out_of_domain,
    make_transforms,
)
from engine.distributed import main_process_first, rank, world_size
from experiments.builders.loaders import build_loaders
from experiments.builders.scan_store import store_scans
from experiments.builders.split import split_cohort, tested_fold
from experiments.config import ComponentConfig, Config, DataConfig, find_named
from experiments.run_files import DataVersion, check_same_data, data_version


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
        loaders: One a side; only training shuffles and augments. Of several processes each has
            its own part of every side.
        version: Of the files, of what was done to them, and of the split.
        out_of_domain: What the transforms are given and are not made for.
        tested: What the test side is, in a line; empty where it is no fold, group or batch.
    """

    cohort: Cohort
    split: np.ndarray
    encoder: CovariateEncoder
    transforms: Compose
    scaler: TargetScaler | None
    datasets: dict[str, SpectraDataset]
    loaders: dict[str, DataLoader[Any]]
    version: DataVersion
    tested: str = ""
    out_of_domain: Sequence[OutOfDomain] = ()

    @property
    def num_classes(self) -> int:
        """C, the width of the logits: as many as there are classes, labels or values."""
        return len(self.cohort.class_names)

    @property
    def tab_dim(self) -> int:
        """D, the width of the encoded covariates."""
        return len(self.encoder.feature_names)

    @property
    def axis(self) -> np.ndarray:
        """Where the points stand that a model is given, [L]: what the transforms leave."""
        assert self.transforms.axis is not None
        return self.transforms.axis

    @property
    def spec_len(self) -> int:
        """L, points of a scan that a model is given."""
        return len(self.axis)

    def train_targets(self) -> Tensor:
        """Class numbers [N_train] or labels [N_train, T] of the training part."""
        return torch.from_numpy(self.cohort.targets[self.split == "train"])

    def describe(self) -> list[str]:
        """Lines for a person."""
        counts = self.cohort.describe().splitlines()
        for side in SUBSETS:
            chosen = self.split == side
            targets = summarise_targets(
                self.cohort.task, self.cohort.targets[chosen], self.cohort.class_names
            )
            groups = len(np.unique(self.cohort.groups[chosen]))
            counts.append(f"{side:<5} {chosen.sum():>6} samples in {groups} groups ({targets})")
        counts.extend([self.tested] if self.tested else [])
        counts.append(f"cohort fingerprint {self.version.fingerprint}")
        return counts + self.describe_transforms()

    def describe_transforms(self) -> list[str]:
        """Lines for a person on the transforms, and on what they are not made for."""
        told = [found.sentence for found in self.out_of_domain]
        return self.transforms.describe() + told


def default_cache_dir() -> Path:
    """Where the embedded cohort is written, by the XDG convention."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scanfire"


def digest_memory(config: DataConfig) -> ChecksumCache:
    """What large files were hashed to before, in the user's cache."""
    return ChecksumCache((config.cache_dir or default_cache_dir()) / "digests", config.verify)


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

    Several processes do so together; what is written to a cache, the first writes.

    Args:
        config: The whole configuration.
        splits_file: A run's own ``splits.csv``; wins over the configuration. The cohort has to be
            the one that the run's folder tells of.

    Raises:
        UsageError: Something about the cohort or the choices made about it cannot be used.
    """
    settings = config.data
    transforms = configured_transforms(settings)
    augmentations = make_augmentations(
        _find_each(settings.augmentations, AUGMENTATIONS, "data.augmentations")
    )
    with main_process_first():
        cohort = read_cohort(settings)
        files = cohort.fingerprint(digest_memory(settings))
    if not cohort.has_spectra:
        transforms, augmentations = Compose([]), []
    version = data_version(settings, cohort, files)
    if splits_file is not None:
        check_same_data(splits_file.parent, version)

    split = split_cohort(cohort, settings, splits_file or settings.split.file)
    version = version.with_split(cohort.sample_ids, split)
    train = split == "train"
    encoder = CovariateEncoder(
        cohort.numeric,
        cohort.categorical,
        log=settings.log or (),
        missing_indicators=settings.missing_indicators,
    )
    encoder.fit(cohort.samples[train])
    tabular = encoder.transform(cohort.samples)
    rows = [cohort.scan_rows[i] for i in np.flatnonzero(train)]
    transforms.fit(cohort.spectra, np.concatenate(rows), cohort.axis)
    out_of_domain = find_out_of_domain(transforms, cohort.spectra, np.concatenate(rows))
    scaler, targets = None, cohort.targets
    if cohort.task == "regression":
        scaler = TargetScaler().fit(cohort.targets[train])
        targets = scaler.standardize(cohort.targets)

    with main_process_first():
        store = store_scans(
            settings,
            cohort,
            transforms,
            version.files.get(SPECTRA_FILE, ""),
            settings.cache_dir or default_cache_dir(),
            digest_memory(settings),
        )
    datasets = {}
    for side in SUBSETS:
        chosen = np.flatnonzero(split == side)
        datasets[side] = SpectraDataset(
            store.spectra,
            [store.rows(cohort.scan_rows[i]) for i in chosen],
            tabular[chosen],
            targets[chosen],
            [cohort.sample_ids[i] for i in chosen],
            augmentations=augmentations if side == "train" else (),
            seed=config.seed,
            **store.dataset_options(),
        )
    tested = tested_fold(cohort, settings, split)
    data = Data(
        cohort, split, encoder, transforms, scaler, datasets, {}, version, tested, out_of_domain
    )
    return with_loaders(config, data)


def with_loaders(config: Config, data: Data) -> Data:
    """The same data with loaders for as many processes as there are now.

    Args:
        config: The whole configuration.
        data: As they were built.

    Raises:
        UsageError: No batch can be made.
    """
    cohort, train = data.cohort, data.split == "train"
    targets, groups = cohort.targets[train], cohort.groups[train]
    return replace(
        data, loaders=build_loaders(config, data.datasets, targets, groups, rank(), world_size())
    )


def configured_transforms(settings: DataConfig) -> Compose:
    """The configured transforms, not fitted yet.

    Raises:
        UsageError: One of them does not exist, or a parameter is wrong.
    """
    return make_transforms(_find_each(settings.transforms, TRANSFORMS, "data.transforms"))


def _find_each(
    specs: Sequence[str | ComponentConfig], known: Mapping[str, Any], key: str
) -> list[Any]:
    """Short names as they are; dotted paths replaced by what they import."""
    found = []
    for number, spec in enumerate(specs):
        named = ComponentConfig(name=spec) if isinstance(spec, str) else spec
        choice = find_named(named.name, known, f"{key}.{number}") if "." in named.name else None
        found.append({"name": choice or named.name, "params": named.params})
    return found
