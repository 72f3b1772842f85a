"""From the ``data`` section to loaders; everything is fitted on the training set alone."""

from __future__ import annotations

import copy
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader

from datasets.augmentations import AUGMENTATIONS, make_augmentations
from datasets.batches import Sample, packed_collate, pad_collate
from datasets.cohort import (
    SEVERAL_COLUMNS,
    SPECTRA_FILE,
    ChecksumCache,
    Cohort,
    TargetScaler,
    summarise_targets,
)
from datasets.covariates import CovariateEncoder
from datasets.errors import UsageError
from datasets.loading import (
    CACHE_LIMIT_BYTES,
    BucketBatchSampler,
    EpochBatchSampler,
    PlannedBatchSampler,
    SpectraDataset,
    make_loader,
)
from datasets.simulation import GENERATOR_VERSION, simulate_cohort
from datasets.splits import SUBSETS
from datasets.transform_cache import GIB, NoRoomError, transformed_scans
from datasets.transforms import (
    TRANSFORMS,
    Compose,
    OutOfDomain,
    find_out_of_domain,
    make_transforms,
)
from engine.distributed import main_process_first, rank, world_size
from experiments.builders.automatic import choose_automatically
from experiments.builders.budget import derive_batch_size
from experiments.builders.split import split_cohort, tested_fold
from experiments.config import AUTOMATIC, ComponentConfig, find_named, is_automatic
from experiments.run_files import check_same_data, data_version

if TYPE_CHECKING:
    from experiments.config import BatchingConfig, Config, DataConfig
    from experiments.run_files import DataVersion


TRAIN = "train"


@dataclass(frozen=True)
class Data:
    """A cohort with its split, datasets and loaders.

    ``split`` is the subset of each sample, [N]; ``scaler`` is of regression targets. Each process
    has its share of a loader; only training shuffles and augments. ``fitted_on`` is ``train``, and
    of a refit ``val``; ``tested`` is a line on the fold that is the test set, or empty; ``chosen``
    are lines on what was chosen for ``auto``.
    """

    cohort: Cohort
    split: np.ndarray
    encoder: CovariateEncoder
    transforms: Compose
    scaler: TargetScaler | None
    datasets: dict[str, SpectraDataset]
    loaders: dict[str, DataLoader[Any]]
    version: DataVersion
    fitted_on: Sequence[str] = ("train",)
    tested: str = ""
    out_of_domain: Sequence[OutOfDomain] = ()
    chosen: Sequence[str] = ()

    @property
    def num_classes(self) -> int:
        """C, the width of the logits: classes, labels or values."""
        return len(self.cohort.class_names)

    @property
    def tab_dim(self) -> int:
        """D, the width of the encoded covariates."""
        return len(self.encoder.feature_names)

    @property
    def axis(self) -> np.ndarray:
        """Positions of the points after the transforms, [L]."""
        assert self.transforms.axis is not None
        return self.transforms.axis

    @property
    def spec_len(self) -> int:
        """L, points of a transformed scan."""
        return len(self.axis)

    @property
    def trained(self) -> np.ndarray:
        """Whether a sample is trained on, bool [N]."""
        return np.isin(self.split, self.fitted_on)

    def draw(self, most: int, seed: int) -> np.ndarray:
        """Training samples of randomly drawn whole groups, at most so many (or one group)."""
        return draw_groups(self.cohort.groups[self.trained], most, seed)

    def groups_of(self, samples: Sequence[str]) -> list[str]:
        """The group of each of these samples."""
        group_of = dict(zip(self.cohort.sample_ids, self.cohort.groups, strict=True))
        return [group_of[sample] for sample in samples]

    def val_groups(self) -> int:
        """Groups of the rarest class in the validation set; all of a regression."""
        val, cohort = self.split == "val", self.cohort
        groups, targets = cohort.groups[val], cohort.targets[val]
        if cohort.task == "regression":
            return len(np.unique(groups))
        if targets.ndim == 1:
            members = [targets == number for number in range(self.num_classes)]
        else:
            members = [found for label in targets.T > 0 for found in (label, ~label)]
        return min(len(np.unique(groups[each])) for each in members)

    def describe(self) -> list[str]:
        """Printed lines."""
        counts = self.cohort.describe().splitlines()
        for subset in SUBSETS:
            chosen = self.split == subset
            targets = summarise_targets(
                self.cohort.task, self.cohort.targets[chosen], self.cohort.class_names
            )
            groups = len(np.unique(self.cohort.groups[chosen]))
            counts.append(f"{subset:<5} {chosen.sum():>6} samples in {groups} groups ({targets})")
        counts.extend([self.tested] if self.tested else [])
        counts.append(f"cohort fingerprint {self.version.fingerprint}")
        counts.extend(self.chosen)
        return counts + self.describe_transforms()

    def describe_transforms(self) -> list[str]:
        """Printed lines on the transforms, and on values that they are not made for."""
        return self.transforms.describe() + [found.sentence for found in self.out_of_domain]


def draw_groups(groups: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Rows of randomly drawn whole ``groups`` [N], at most so many (or one group); else all."""
    if len(groups) <= most:
        return np.arange(len(groups))
    names, group_of, counts = np.unique(groups, return_inverse=True, return_counts=True)
    order = np.random.default_rng(seed).permutation(len(names))
    taken = order[: max(1, int((counts[order].cumsum() <= most).sum()))]
    return np.flatnonzero(np.isin(group_of, taken))


def default_cache_dir() -> Path:
    """The user's cache folder, by the XDG convention."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "scanfire"


def digest_memory(config: DataConfig) -> ChecksumCache:
    """Remembered checksums of large files."""
    return ChecksumCache((config.cache_dir or default_cache_dir()) / "digests", config.verify)


def read_cohort(config: DataConfig) -> Cohort:
    """Read the configured cohort, or write (once) and read the embedded one."""
    root, labels = config.root, config.labels
    if root is None:
        wanted = config.simulated
        settings = wanted.settings()
        folder = config.cache_dir or default_cache_dir()
        name = f"simulated-v{GENERATOR_VERSION}-n{wanted.n_samples}-seed{wanted.seed}"
        # Nothing is added where all is as the first version had it.
        name += "".join(f"-{key}-{value}" for key, value in settings.changed().items())
        simulated = simulate_cohort(
            folder / name,
            seed=wanted.seed,
            n_samples=wanted.n_samples,
            settings=settings,
        )
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


class GivenCohort(NamedTuple):
    """A cohort with its split, the subset of each sample [N], in place of the configured ones.

    ``files`` are its checksums (:meth:`Cohort.fingerprint`); a cohort in memory has none.
    """

    cohort: Cohort
    split: np.ndarray
    files: Mapping[str, str]


def build_data(
    config: Config,
    splits_file: Path | None = None,
    fitted_on: Sequence[str] = (TRAIN,),
    given: GivenCohort | None = None,
) -> Data:
    """Read and split the cohort, fit on the training set, and make the loaders. Collective.

    ``splits_file`` is ``splits.csv`` of a continued run, whose cohort must be the same.
    ``fitted_on`` are the subsets that are trained on; with ``val`` its samples are in two datasets.
    Subsets of a ``given`` split that have no sample have no dataset.
    """
    settings = config.data
    augmentations = make_augmentations(
        _find_each(settings.augmentations, AUGMENTATIONS, "data.augmentations")
    )
    with main_process_first():
        cohort = given.cohort if given else read_cohort(settings)
        files = given.files if given else cohort.fingerprint(digest_memory(settings))

    def find_split() -> np.ndarray:
        if given:
            return given.split
        return split_cohort(cohort, settings, splits_file or settings.split.file)

    told: list[str] = []
    if is_automatic(config):
        train = np.isin(find_split(), fitted_on)
        told = choose_automatically(config, cohort, train)
    transforms = configured_transforms(settings)
    if not cohort.has_spectra:
        transforms, augmentations = Compose([]), []
    version = data_version(settings, cohort, files)
    if splits_file is not None:
        check_same_data(splits_file.parent, version)

    split = find_split()
    version = version.with_split(cohort.sample_ids, split)
    train = np.isin(split, fitted_on)
    encoder = CovariateEncoder(
        cohort.numeric,
        cohort.categorical,
        log=settings.log or (),
        missing_indicators=settings.missing_indicators,
        encoding=settings.covariate_encoding,
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
        spectra, scan_rows, options = store_scans(
            settings, cohort, transforms, version.files.get(SPECTRA_FILE, "")
        )
    if splits_file is None or config.trainer.batch_size is None:
        derive_batch_size(config, int(train.sum()), world_size())
    datasets = {}
    for subset in (name for name in SUBSETS if name in split):
        chosen = np.flatnonzero(train if subset == TRAIN else split == subset)
        datasets[subset] = SpectraDataset(
            spectra,
            [scan_rows[i] for i in chosen],
            tabular[chosen],
            targets[chosen],
            [cohort.sample_ids[i] for i in chosen],
            augmentations=augmentations if subset == "train" else (),
            seed=config.seed,
            cache_limit=sys.maxsize,
            **options,
        )
    fitted = (encoder, transforms, scaler)
    tested = "" if given else tested_fold(cohort, settings, split)
    data = Data(
        cohort, split, *fitted, datasets, {}, version, fitted_on, tested, out_of_domain, told
    )
    return with_loaders(config, data)


def with_loaders(config: Config, data: Data) -> Data:
    """The same data with loaders for the present world size."""
    targets, groups = (of[data.trained] for of in (data.cohort.targets, data.cohort.groups))
    loaders = build_loaders(config, data.datasets, targets, groups, rank(), world_size())
    return replace(data, loaders=loaders)


def configured_transforms(settings: DataConfig) -> Compose:
    """The configured transforms, not fitted yet; none if they are chosen later."""
    if AUTOMATIC in settings.transforms:
        return Compose([])
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


# Of the folder for what can be made again.
FOLDER = "transformed"
_say = partial(print, flush=True)  # at once: what follows may take minutes


def store_scans(
    settings: DataConfig, cohort: Cohort, transforms: Compose, fingerprint: str
) -> tuple[np.ndarray, list[np.ndarray], dict[str, Any]]:
    """Choose where transformed scans are kept (``data.cache``), and write them if on disk.

    ``fingerprint`` is the SHA-256 of the file of spectra. Returns the spectra, each sample's rows
    in them, and the options of :class:`~datasets.loading.SpectraDataset`.
    """
    rows = np.concatenate(cohort.scan_rows)
    points = cohort.spec_len if transforms.spec_len is None else transforms.spec_len
    size = len(np.unique(rows)) * points * np.dtype(np.float32).itemsize
    where = settings.cache
    if where == "auto":
        where = "memory" if size <= CACHE_LIMIT_BYTES else "disk"
    if where == "disk" and transforms.transforms:
        try:
            kept = transformed_scans(
                cohort.spectra,
                rows,
                transforms,
                fingerprint,
                (settings.cache_dir or default_cache_dir()) / FOLDER,
                memory=digest_memory(settings),
                limit_bytes=int(settings.cache_limit_gib * GIB),
                say=_say,
            )
            return kept.spectra, [kept.places(own) for own in cohort.scan_rows], {"cache": False}
        except NoRoomError as error:
            if settings.cache == "disk":
                raise
            _say(f"{error}: they are transformed at each access")
    # Without transforms the cohort's own file serves as well as a copy of it.
    options = {"transforms": transforms, "cache": where == "memory"}
    return cohort.spectra, list(cohort.scan_rows), options


# Evaluation keeps no activations for a backward pass, so that larger batches fit.
EVALUATION_BATCH_FACTOR = 2


def build_loaders(
    config: Config,
    datasets: Mapping[str, SpectraDataset],
    classes: np.ndarray,
    groups: np.ndarray,
    rank: int = 0,
    world_size: int = 1,
) -> dict[str, DataLoader[Any]]:
    """Make a loader of each subset; only training shuffles and balances.

    All ranks have the same number of batches; in evaluation each sample is on exactly one rank.
    ``classes`` and ``groups`` are of the training set, [N_train].
    """
    batching = config.data.batching
    strata = {"none": None, "class": classes, "group": groups}[batching.balance]
    loaders = {}
    for subset, dataset in datasets.items():
        train = subset == TRAIN
        sampler = _sampler(config, dataset, train, strata if train else None, rank, world_size)
        loaders[subset] = _loader(config, dataset, sampler)
    return loaders


def evaluation_loader(config: Config, dataset: SpectraDataset) -> DataLoader[Any]:
    """A loader of a dataset as it is evaluated by one process: in order, without augmentations.

    A sample beyond the token budget is a batch of its own.
    """
    plain = copy.copy(dataset)
    plain.augmentations = []
    return _loader(config, plain, _sampler(config, plain, False, None, 0, 1, strict=False))


def _loader(
    config: Config, dataset: SpectraDataset, sampler: PlannedBatchSampler
) -> DataLoader[Any]:
    to_gpu = torch.cuda.is_available() and config.trainer.device != "cpu"
    return make_loader(
        dataset,
        seed=config.seed,
        num_workers=config.data.num_workers,
        pin_memory=to_gpu,
        sampler=sampler,
        collate=_collate(config.data.batching, to_gpu),
    )


def _sampler(
    config: Config,
    dataset: SpectraDataset,
    train: bool,
    strata: np.ndarray | None,
    rank: int,
    world_size: int,
    strict: bool = True,
) -> PlannedBatchSampler:
    factor = 1 if train else EVALUATION_BATCH_FACTOR
    batching = config.data.batching
    assert config.trainer.batch_size is not None
    batch_size = config.trainer.batch_size * factor
    shared: dict[str, Any] = {"strata": strata, "rank": rank, "world_size": world_size}
    if batching.kind == "shuffle":
        shared["lengths"] = dataset.scan_counts
        return EpochBatchSampler(len(dataset), batch_size, train, config.seed, **shared)
    # Padded, those of one multiple are equally long.
    multiple = batching.pad_scans_to or 1
    lengths = -(-dataset.scan_counts // multiple) * multiple
    max_scans = None
    if batching.token_budget is not None:
        points = max(1, dataset.spec_len)
        most = int(lengths.max(initial=0))
        max_scans = batching.token_budget * factor // points
        if most > max_scans and strict:
            has = "has" if multiple == 1 else "is padded to"
            raise UsageError(
                f"data.batching.token_budget: a sample {has} {most} scans of {points} points; at "
                f"least {-(-most * points // factor)} was expected, not {batching.token_budget}"
            )
        max_scans = max(max_scans, most)  # a sample that is larger is a batch of its own
    return BucketBatchSampler(lengths, batch_size, train, config.seed, max_scans, **shared)


def _collate(batching: BatchingConfig, to_gpu: bool) -> Callable[[Sequence[Sample]], Any]:
    """Packed batches save pinned memory and copies to a GPU; on a CPU padding at once is faster."""
    packed = batching.collate == "packed" or (batching.collate == "auto" and to_gpu)
    collate: Callable[..., Any] = packed_collate if packed else pad_collate
    multiples = {"pad_rows_to": batching.pad_rows_to, "pad_scans_to": batching.pad_scans_to}
    chosen = {name: multiple for name, multiple in multiples.items() if multiple is not None}
    return partial(collate, **chosen) if chosen else collate
