"""A ragged batch of a few samples, and settings of models small enough for it."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from experiments.config import find_named
from models import MODELS, TrainingSet, fit_before_training, is_fitted_before
from models.spectra_encoder import WhitenedComponents

SPEC_LEN = 100  # not a multiple of the patch size below
TAB_DIM = 5
SCANS = (3, 1, 4, 2, 4, 1)
SMALL: dict[str, Any] = {"patch_size": 16, "d_model": 16, "num_layers": 2, "num_heads": 4}
SMALL_BY_NAME: dict[str, dict[str, Any]] = {
    "tft": {"spec_emb": 24, "tab_emb": 12, "fusion_dim": 20, **SMALL},
    "attention": {
        "spec_emb": 24,
        "tab_emb": 12,
        "fusion_dim": 16,
        "fusion_heads": 2,
        "hidden_dims": (20, 20, 10),
        **SMALL,
    },
    "late_fusion": {"spec_emb": 24, "tab_emb": 12, **SMALL},
    "pca_mlp": {"hidden_dim": 16, "components": 8, "input_noise": 0.0},
    "spectra_only": {"spec_emb": 24, **SMALL},
    "spectra_cnn": {"spec_emb": 24, "channels": (8, 16)},
    "mean_linear": {},
    "tabular_only": {"tab_emb": 12},
    "tabular_transformer": {"d_model": 16, "num_layers": 2, "num_heads": 4},
}


@dataclass
class SmallBatch:
    """Six samples of one to four scans."""

    spectra: Tensor
    mask: Tensor
    tabular: Tensor
    target: Tensor

    @property
    def inputs(self) -> tuple[Tensor, Tensor, Tensor]:
        return self.spectra, self.mask, self.tabular


def small_model(name: str, num_classes: int = 2, seed: int = 0, **changes: Any) -> nn.Module:
    """A small model of that short name, given of the data and the changes what it takes."""
    torch.manual_seed(seed)
    model_class = find_named(name, MODELS, "name")
    offered = {"tab_dim": TAB_DIM, "spec_len": SPEC_LEN, "num_classes": num_classes, **changes}
    taken = inspect.signature(model_class).parameters
    settings = SMALL_BY_NAME[name] | {k: v for k, v in offered.items() if k in taken}
    model = model_class(**settings)
    if is_fitted_before(model):
        fit_before_training(model, random_training_set(num_classes))
    for part in model.modules():
        # Random draws depend on how the scans are laid out, as those of dropout do.
        if isinstance(part, WhitenedComponents):
            part.noise.zero_()
    for parameter in model.parameters():
        # A layer that starts at zero lets no gradient through.
        if parameter.ndim > 1 and not parameter.any():
            nn.init.normal_(parameter, std=0.1)
    return model


def random_training_set(num_classes: int = 2) -> TrainingSet:
    """Twenty-four samples as large as the batch's."""
    rng = np.random.default_rng(0)
    spectra = rng.normal(size=(24, SPEC_LEN)).astype(np.float32)
    covariates = rng.normal(size=(24, TAB_DIM)).astype(np.float32)
    groups = np.arange(24).astype(str)
    return TrainingSet(spectra, covariates, np.arange(24) % num_classes, groups, "multiclass", 0)
