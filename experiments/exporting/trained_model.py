"""A trained model with all that its export tells of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.errors import UsageError
from experiments.prediction import load_model, tested_samples
from models import Weighted

if TYPE_CHECKING:
    from torch import nn

    from datasets.cohort import TargetScaler
    from datasets.covariates import CovariateEncoder
    from datasets.transforms import Compose
    from experiments.config import Config


@dataclass(frozen=True)
class TrainedModel:
    """A network in evaluation mode on the CPU, and what was fitted beside it.

    ``temperature`` divides the logits for calibrated probabilities, None where there is none;
    ``thresholds`` decide, by class or label. ``scaler`` is of regression targets. ``folder`` is
    where its exports go; ``tested`` are the samples of the run's test set.
    """

    name: str
    config: Config
    model: nn.Module
    encoder: CovariateEncoder
    transforms: Compose
    task: str
    class_names: list[str]
    folder: Path
    scaler: TargetScaler | None = None
    temperature: float | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    tested: frozenset[str] = frozenset()

    @property
    def sizes(self) -> dict[str, int]:
        """What the model was built for: ``tab_dim``, ``spec_len`` and ``num_classes``."""
        return {
            "tab_dim": len(self.encoder.feature_names),
            "spec_len": self.transforms.spec_len or 0,
            "num_classes": len(self.class_names),
        }

    @property
    def members(self) -> dict[str, float]:
        """Name -> weight of the logits of each member; empty of a single network."""
        if isinstance(self.model, Weighted):
            weights = self.model.member_weights.tolist()
            return dict(zip(self.model.member_names, weights, strict=True))
        count, name = self.config.model.members, self.config.model.name
        assert isinstance(count, int)
        return {f"{name} {n + 1}": 1 / count for n in range(count)} if count > 1 else {}


def load_trained(source: str | Path) -> TrainedModel:
    """Load the network of a run, its package (zip) or a cross-validation; UsageError without one.

    The cohort is not read.
    """
    loaded = load_model(source, "cpu")
    where, fitted = loaded.files.where, loaded.fitted
    if len(loaded.predictors) > 1:
        raise UsageError(f"{source} holds {len(loaded.predictors)} models: name one, as {where}")
    network = getattr(loaded.predictors[0], "model", None)
    if network is None:
        raise UsageError(f"{where} is a classical baseline: only networks and their ensembles")
    packed = where.is_file()
    return TrainedModel(
        name=where.stem if packed else where.resolve().name,
        config=fitted.config,
        model=network.eval(),
        encoder=fitted.encoder,
        transforms=fitted.transforms,
        task=fitted.task,
        class_names=fitted.class_names,
        folder=where.parent if packed else where,
        scaler=fitted.scaler,
        temperature=loaded.temperature,
        thresholds=loaded.thresholds,
        tested=frozenset(tested_samples(loaded)),
    )
