"""A run's training on a cohort in memory, which leaves a model and no files."""

from __future__ import annotations

import signal
import warnings
from typing import TYPE_CHECKING

import numpy as np

from datasets.splits import stratified_group_split
from engine.checkpointing import preserve_rng_state
from experiments.builders import GivenCohort, digest_memory
from experiments.estimators.fitted import FittedModel
from experiments.estimators.inputs import IN_MEMORY
from experiments.runs import Experiment
from handlers.graceful_shutdown import EXIT_BASE

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from experiments.config import Config

TRAINED = ("train", "val")


class QuietTraining(Experiment):
    """A training that prints nothing, and whose folder is removed after it."""

    watched = False

    def _write_beginning(self) -> None:
        """Nobody continues it."""


def train_model(config: Config, cohort: Cohort) -> tuple[FittedModel, dict[str, float]]:
    """Train on a cohort; returns the model, and its metrics on the validation set.

    The validation set is drawn by group, as within a fold of a cross-validation. The global random
    number streams are left as they were.
    """
    split = split_validation(config, cohort)
    with preserve_rng_state():
        # Checksums also check that large spectra are finite; those in memory were checked.
        in_memory = cohort.root == IN_MEMORY
        files = {} if in_memory else cohort.fingerprint(digest_memory(config.data))
        training = QuietTraining(config, given=GivenCohort(cohort, split, files))
        try:
            training.setup()
            for found in training.data.out_of_domain:
                warnings.warn(str(found.sentence), stacklevel=4)
            for stage in (training.train, training.validate, training.refit):
                stage()
                if training.exit_code is not None:
                    # The signal that ended the training goes on to whom it was meant for.
                    signal.raise_signal(training.exit_code - EXIT_BASE)
            return FittedModel.of(training), training.results["val"]
        finally:
            training.close()


def split_validation(config: Config, cohort: Cohort) -> np.ndarray:
    """``train`` or ``val`` for each sample, [N]: what a fold leaves of a cohort, divided alike."""
    train, val, _ = config.data.split.fractions
    share = val / (train + val)
    names, seed = cohort.class_names, config.data.split.seed or 0
    shares = (1 - share, share)
    drawn = stratified_group_split(cohort.targets, cohort.groups, TRAINED, shares, seed, names)
    return np.array(TRAINED)[drawn]
