"""A training on every sample, which leaves none to select or to test by."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from ignite.utils import manual_seed
from safetensors.torch import save

from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.splits import SUBSETS, write_splits
from experiments.builders import build_data
from experiments.config import build_metrics, write_yaml
from experiments.launch import describe_environment, describe_group, own_device
from experiments.run_files import RunFile, digest
from experiments.runs.experiment import Experiment, stage
from experiments.runs.export import pack_preprocessing
from experiments.runs.refit import (
    REFIT_FOLDER,
    FinalTask,
    FinalTrainingError,
    begin_refit,
    refuse_broken,
)
from experiments.runs.run_setup import run_identity
from models import Weighted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from experiments.config import Config


def train_on_all(task: FinalTask) -> int | None:
    """Train and write the folder; the exit code if a signal stopped the training."""
    training = FinalTraining(task.config, task.folder, task.epochs, task.member_weights)
    try:
        training.train()
        if training.exit_code is None:
            training.export_model(task.card)
        return training.exit_code
    finally:
        training.close()


class FinalTraining(Experiment):
    """Train the configured model on all samples for ``epochs``, into a folder that may exist.

    The folder gets the weights, what was fitted, and how: no predictions, metrics or pages.
    Checkpoints and log are in ``refit`` within it. A cut training of the same data, settings and
    epochs is continued; another one is replaced.
    """

    def __init__(
        self, config: Config, folder: Path, epochs: int, member_weights: Sequence[float] = ()
    ) -> None:
        super().__init__(config)
        if member_weights:
            self._member_weights = torch.tensor(member_weights)
        self.run_dir, self.epochs = folder, epochs

    @stage
    def train(self) -> None:
        """Train to the last of the epochs, unless a signal stops it.

        All settings have to be chosen: nothing is derived from the larger training set.
        """
        config, device = self.config, own_device(self.config.trainer.device)
        try:
            self.run_dir.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UsageError(f"cannot make {self.run_dir}: {error.strerror}") from error
        self._take_lock(self.run_dir)
        manual_seed(config.seed)
        data = build_data(config, fitted_on=SUBSETS)
        everyone = np.full(len(data.split), "train")
        version = data.version.with_split(data.cohort.sample_ids, everyone)
        self.data = replace(data, split=everyone, fitted_on=("train",), version=version)
        self.metrics = build_metrics(config.metrics, data.cohort.task, data.num_classes)
        model, loss, loss_terms = self._build_model(device)
        try:
            self._assemble(model, loss, loss_terms, device, refit=True)
        except UsageError as error:  # of settings that other runs have: no monitor is measured here
            raise FinalTrainingError(str(error)) from error
        trainer = self.trainer
        if isinstance(trainer.model, Weighted):
            known = self._member_weights
            if known is None or known.shape != trainer.model.member_weights.shape:
                raise FinalTrainingError("the runs of the folds have no weights of these members")
        whole = [run_identity(config, self.data, trainer.model), self.epochs]
        self.handlers.checkpoint.meta = {REFIT_FOLDER: digest(whole)}
        folder = self.run_dir / REFIT_FOLDER
        begin_refit(trainer, folder, self.handlers.checkpoint.meta, self.epochs, "all samples")
        if trainer.epochs_done() < self.epochs:
            (self.run_dir / RunFile.WEIGHTS).unlink(missing_ok=True)  # of another training
            self._fit()
        if self.exit_code is None:
            try:
                refuse_broken(trainer.model, "the training on all samples diverged", "at its end")
            except UsageError as error:
                raise FinalTrainingError(str(error)) from error
            self._weigh_members(choose=False)

    def export_model(self, card: str) -> None:
        """Write the weights, what was fitted, the card, the settings, environment and split."""
        folder, data = self.run_dir, self.data
        with self.handlers.averaged_weights():
            state = self.trainer.model.state_dict()
            weights = {name: tensor.detach().clone() for name, tensor in state.items()}
        environment = describe_environment(
            data.version.plain(), describe_group(self.config.trainer)
        )
        try:
            write_whole(card.encode(), folder, RunFile.CARD)
            text = json.dumps(environment, indent=2, ensure_ascii=False) + "\n"
            write_whole(text.encode(), folder, RunFile.ENVIRONMENT)
            cohort = data.cohort
            write_splits(folder / RunFile.SPLITS, cohort.sample_ids, cohort.groups, data.split)
            write_whole(write_yaml(self.config.plain()).encode(), folder, RunFile.CONFIG)
            write_whole(pack_preprocessing(data), folder, RunFile.PREPROCESSING)
            (folder / RunFile.WEIGHTS).parent.mkdir(exist_ok=True)
            write_whole(save(weights), folder, RunFile.WEIGHTS)
        except OSError as error:
            raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
