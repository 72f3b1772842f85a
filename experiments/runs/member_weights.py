"""Weights of a model's members, by samples that they were not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from datasets.loading import stop_workers
from engine.explain import MemberLogits
from engine.metrics import rows_in_order
from experiments.builders import evaluation_loader

if TYPE_CHECKING:
    from engine.evaluator import Evaluator
    from experiments.builders import Data, RunHandlers
    from experiments.config import Config
    from models import Weighted


def choose_weights(
    config: Config, data: Data, model: Weighted, evaluator: Evaluator, handlers: RunHandlers
) -> None:
    """Choose the weights by the validation set, and where members leave out folds the training set.

    The evaluator's metrics are then of other weights.
    """
    train = data.datasets["train"]
    loaders = {"val": data.loaders["val"]}
    if train.fold is not None:
        loaders["train"] = evaluation_loader(config, train)
    logits, targets = [], []
    for subset, loader in loaders.items():
        members, dataset = MemberLogits(), data.datasets[subset]
        members.attach(evaluator)
        evaluator.evaluate(loader, handlers.averaged_weights)
        members.detach(evaluator)
        stop_workers(loader)
        found = evaluator.metrics.outputs
        assert members.logits is not None
        assert found is not None
        rows = np.array(rows_in_order(found.sample_id, dataset.sample_ids))
        # All members were trained on a sample of no fold.
        known = np.full(len(dataset), True) if dataset.fold is None else dataset.fold >= 0
        logits.append(members.logits.numpy()[rows[known]])
        targets.append(dataset.targets[known])
    model.choose_weights(np.concatenate(logits), np.concatenate(targets), data.cohort.task)
