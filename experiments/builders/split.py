"""From the ``data.split`` section to the subset of each sample."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.cohort import AUTO, Cohort
from datasets.errors import CohortError
from datasets.splits import (
    SUBSETS,
    Folds,
    hash_split,
    k_folds,
    leave_one_batch_out,
    leave_one_group_out,
    make_split,
    read_splits,
)

if TYPE_CHECKING:
    from experiments.config import DataConfig

# A test set that is one group or one batch may lack a class.
ALWAYS_WHOLE = ("train", "val")
CHANCE_TESTS = ("leave_one_group_out", "leave_one_batch_out")


def split_cohort(cohort: Cohort, settings: DataConfig, file: Path | None) -> np.ndarray:
    """The subset of each sample, [N]: from ``file`` (``splits.csv``) if given, else drawn."""
    split = settings.split
    if file is not None:
        return read_splits(
            file,
            cohort.sample_ids,
            cohort.groups,
            cohort.targets,
            cohort.class_names,
            whole=ALWAYS_WHOLE if split.kind in CHANCE_TESTS else SUBSETS,
        )
    _refuse_values(cohort, settings)
    seed = split.seed or 0
    if split.fold is not None:
        folds = make_folds(cohort, settings)
        return split_fold(cohort, settings, folds, folds.find(split.fold))
    draw = hash_split if split.kind == "hash" else make_split
    return draw(cohort.targets, cohort.groups, split.fractions, seed, cohort.class_names)


def make_folds(cohort: Cohort, settings: DataConfig) -> Folds:
    """The folds of a cohort; ``settings.split.fold`` is one of them."""
    split = settings.split
    if split.kind == "leave_one_group_out":
        return leave_one_group_out(cohort.groups)
    if split.kind == "leave_one_batch_out":
        assert split.batch is not None
        return leave_one_batch_out(cohort.samples, split.batch, cohort.groups)
    _refuse_values(cohort, settings)
    return k_folds(cohort.targets, cohort.groups, split.folds, split.seed or 0, cohort.class_names)


def split_fold(cohort: Cohort, settings: DataConfig, folds: Folds, number: int) -> np.ndarray:
    """The split with one fold as test set; train and val share the rest by their fractions."""
    train, val, _ = settings.split.fractions
    return folds.split(
        number,
        cohort.targets,
        cohort.groups,
        val / (train + val),
        settings.split.seed or 0,
        cohort.class_names,
    )


def tested_fold(cohort: Cohort, settings: DataConfig, split: np.ndarray) -> str:
    """A line on the fold that is the test set; empty if it is no whole fold."""
    chosen = settings.split
    if chosen.kind in CHANCE_TESTS:
        folds = make_folds(cohort, settings)
        tested = np.unique(folds.number_of[split == "test"])
        return folds.describe(int(tested[0])) if len(tested) == 1 else ""
    if chosen.kind == "kfold" and chosen.file is None:
        assert isinstance(chosen.fold, int | str)
        names = [str(number) for number in range(chosen.folds)]
        folds = Folds("fold", names, np.zeros(0, dtype=np.int64))
        return folds.describe(folds.find(chosen.fold))
    return ""


def _refuse_values(cohort: Cohort, settings: DataConfig) -> None:
    """Refuse to split numbers read as classes, too many for each to be in every subset."""
    classes, samples = len(cohort.class_names), len(cohort.sample_ids)
    if settings.task != AUTO or classes * len(SUBSETS) <= samples:
        return
    try:
        list(map(float, cohort.class_names))
    except ValueError:
        return
    raise CohortError(
        f"the label holds {classes} different numbers in {samples} samples, too many for "
        "classes; to regress them set data.task to regression"
    )
