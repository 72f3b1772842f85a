"""A trained model with all that is needed to use it, from a run's folder."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from datasets.cohort import TargetScaler
from datasets.covariates import CovariateEncoder
from datasets.errors import UsageError
from datasets.transforms import Compose
from experiments.builders import build_network, configured_transforms
from experiments.config import load_config
from experiments.run_files import RunFile
from models import Weighted

if TYPE_CHECKING:
    from torch import nn

    from experiments.config import Config


@dataclass(frozen=True)
class TrainedModel:
    """A model in evaluation mode, and what was fitted beside it.

    ``temperature`` divides the logits for calibrated probabilities, None where none was fitted;
    ``thresholds`` are those of ``metrics.json``. ``scaler`` is of regression targets. ``folder`` is
    the run's, which also has the split.
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
    thresholds: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> dict[str, int]:
        """What the model was built for: ``tab_dim``, ``spec_len`` and ``num_classes``."""
        return {
            "tab_dim": len(self.encoder.feature_names),
            "spec_len": self.transforms.spec_len or 0,
            "num_classes": len(self.class_names),
        }

    @property
    def axis(self) -> np.ndarray:
        """Positions of the points after the transforms, [L]."""
        return np.zeros(0) if self.transforms.axis is None else self.transforms.axis

    @property
    def members(self) -> dict[str, float | None]:
        """Name -> weight of each member; a network of several of a kind averages them."""
        if isinstance(self.model, Weighted):
            weights = self.model.member_weights.tolist()
            return dict(zip(self.model.member_names, weights, strict=True))
        count = self.config.model.members
        assert isinstance(count, int)
        name = self.config.model.name
        return {f"{name} {n + 1}": 1 / count for n in range(count)} if count > 1 else {}


def load_trained(folder: Path) -> TrainedModel:
    """Read a finished run's model, encoder, transforms and temperature; UsageError if it has none.

    Its folder is enough; the cohort is not read.
    """
    for needed in (RunFile.CONFIG, RunFile.WEIGHTS, RunFile.PREPROCESSING):
        if not (folder / needed).is_file():
            raise UsageError(f"{folder} lacks {needed}: a finished run was expected")
    resolved = folder / RunFile.RESOLVED
    config = load_config(str(resolved if resolved.is_file() else folder / RunFile.CONFIG))
    fitted = torch.load(folder / RunFile.PREPROCESSING, weights_only=True)
    encoder = CovariateEncoder.from_state_dict(fitted["covariates"])
    transforms = Compose([])
    if fitted["transforms"]["names"] or fitted["transforms"]["axis"] is not None:
        if fitted["transforms"]["names"]:
            transforms = configured_transforms(config.data)
        transforms.load_state_dict(fitted["transforms"])
    scaler = None
    if "targets" in fitted:
        scaler = TargetScaler()
        scaler.load_state_dict(fitted["targets"])
    sizes = {
        "tab_dim": len(encoder.feature_names),
        "spec_len": transforms.spec_len or 0,
        "num_classes": len(fitted["class_names"]),
    }
    model = build_network(config.model, sizes, fitted["task"])
    try:
        model.load_state_dict(load_file(folder / RunFile.WEIGHTS))
    except (SafetensorError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{folder / RunFile.WEIGHTS} cannot be loaded: {reason}") from error
    tested = json.loads((folder / RunFile.METRICS).read_text("utf-8"))["test"] or {}
    calibration = tested.get("calibration") or {}
    return TrainedModel(
        *(folder.resolve().name, config, model.eval(), encoder, transforms),
        *(fitted["task"], list(fitted["class_names"]), folder, scaler),
        *(calibration.get("temperature"), tested.get("thresholds") or {}),
    )
