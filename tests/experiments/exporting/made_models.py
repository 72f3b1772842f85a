"""Models that were built and fitted for a cohort, but not trained: quick, and not zero."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from experiments.builders import build_data, build_model_and_loss
from experiments.exporting import TrainedModel
from tests.experiments.conftest import SMALL_TFT, changed_config, small_settings

SPECTRA_BRANCH = {k: SMALL_TFT[k] for k in ("patch_size", "d_model", "num_layers", "spec_emb")}
# Settings of the model section.
FAMILIES: dict[str, dict[str, Any]] = {
    "tft": {"params": SMALL_TFT},
    "attention": {"params": {**SPECTRA_BRANCH, "fusion_dim": 16, "hidden_dims": [16]}},
    "late_fusion": {"params": {**SPECTRA_BRANCH, "tab_emb": 16}},
    "pca_mlp": {},
    "spectra_only": {"params": {**SPECTRA_BRANCH, "scan_position": "index"}},
    "spectra_cnn": {"params": {"spec_emb": 16, "channels": [8, 16]}},
    "mean_linear": {},
    "tabular_only": {"params": {"tab_emb": 16}},
    "tabular_transformer": {"params": {"d_model": 16, "num_layers": 1}},
}
LINEAR_PATH = {"name": "tft", "params": SMALL_TFT, "members": 2, "linear_path": True}
ENSEMBLE: dict[str, Any] = {
    "name": "ensemble",
    "members": [
        {"name": "pca_mlp", "members": 2},
        {"name": "spectra_only", "params": SPECTRA_BRANCH},
        "spectra_logistic",
        "spectra_extra_trees",
        "covariates_logistic",
        "covariates_extra_trees",
    ],
}
VALUES_ENSEMBLE: dict[str, Any] = {
    "name": "ensemble",
    "members": ["mean_linear", "spectra_ridge", "covariates_extra_trees"],
}
TASKS: dict[str, dict[str, Any]] = {
    "binary": {},
    "multilabel": {"task": "multilabel", "label": ["ill", "old"], "labels": None},
    "regression": {"task": "regression", "label": ["age"], "labels": None},
}


def made_model(
    cohort: Path, folder: Path, model: dict[str, Any], temperature: float | None = 1.7, **data: Any
) -> TrainedModel:
    """Build and fit a model for a cohort; ``data`` are further settings of that section."""
    torch.manual_seed(0)
    settings = small_settings(cohort, folder)
    settings["model"] = model
    settings["data"] |= {"augmentations": [], **data}
    config = changed_config(settings)
    made = build_data(config)
    network, _ = build_model_and_loss(config, made, torch.device("cpu"))
    for parameter in network.parameters():
        if not parameter.any():  # what starts at zero would hide what stands before it
            torch.nn.init.normal_(parameter, std=0.1)
    test = made.datasets["test"].sample_ids
    return TrainedModel(
        *("made", config, network.eval(), made.encoder, made.transforms),
        *(made.cohort.task, made.cohort.class_names, folder, made.scaler, temperature),
        tested=frozenset(test),
    )
