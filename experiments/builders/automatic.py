"""Treatment of the spectra and model that suit a cohort, chosen within its training set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from datasets.transforms import make_transforms
from engine.distributed import broadcast_from_main
from experiments.config import AUTOMATIC, keep_automatic
from models.linear_path import FEW_SAMPLES

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from experiments.config import Config

_SCALED = {"name": "standardize", "params": {"min_std": 0.1, "relative_to": "median", "clip": 8.0}}
_BINNED = {"name": "bin", "params": {"width": 3}}
# The first fits counts, the others any intensities; those that take no negative values are not
# tried where there are some.
TREATMENTS: dict[str, list[Any]] = {
    "centred log-ratio": ["tic", _BINNED, "clr", _SCALED],
    "square root": ["tic", "sqrt", _SCALED],
    "standard normal variate": ["snv", _SCALED],
}
NON_NEGATIVE = ("centred log-ratio", "square root")
# Samples that a treatment is chosen by, and points below which neighbours are not averaged.
MOST_SAMPLES, FEWEST_POINTS = 2000, 1500
# From so many training samples on the modalities are trained together, and a transformer is one of
# the members.
JOINTLY, WITH_TRANSFORMER = 300, 2000
NETWORKS = 8


def choose_automatically(config: Config, cohort: Cohort, train: np.ndarray) -> list[str]:
    """Replace ``auto`` in a configuration; ``train`` are the samples to choose by, bool [N].

    Returns a printed line on each choice. Collective.
    """
    chosen, told = config.resolved(), []
    if AUTOMATIC in config.data.transforms:
        samples = np.flatnonzero(train)
        steps, reason = broadcast_from_main(lambda: _choose_treatment(config, cohort, samples))
        chosen["data"]["transforms"] = steps
        told.append(f"treatment: {reason}")
    if config.model.name == AUTOMATIC:
        chosen["model"] = _choose_model(cohort, int(train.sum()))
        names = ", ".join(member["name"] for member in chosen["model"]["members"])
        told.append(f"model: an ensemble of {names} ({train.sum()} training samples)")
    keep_automatic(config, chosen)
    return told


def _choose_model(cohort: Cohort, samples: int) -> dict[str, Any]:
    """An ensemble of what the cohort has the data for."""
    members: list[dict[str, Any]] = []
    has_covariates = bool(cohort.numeric or cohort.categorical)
    modalities = ["spectra"] * cohort.has_spectra + ["covariates"] * has_covariates
    if cohort.has_spectra:
        separate = {"fusion": "separate"} if samples < JOINTLY else {}
        members.append({"name": "pca_mlp", "params": separate, "members": NETWORKS})
        if samples >= WITH_TRANSFORMER:
            members.append({"name": "tft" if has_covariates else "spectra_only"})
    else:
        members.append({"name": "tabular_only", "members": NETWORKS})
    for modality in modalities:
        linear = "ridge" if cohort.task == "regression" else "logistic"
        if modality == "spectra" and linear == "logistic":
            linear = _logistic(samples)
        members += [{"name": f"{modality}_{linear}"}, {"name": f"{modality}_extra_trees"}]
    return {"name": "ensemble", "members": members}


def _choose_treatment(config: Config, cohort: Cohort, train: np.ndarray) -> tuple[list[Any], str]:
    """The treatment by which a linear model of the mean spectra has the least loss.

    Inner folds of the training samples measure it; groups stay together.
    """
    if not cohort.has_spectra:
        return [], "none, there are no spectra"
    rng = np.random.default_rng(config.seed)
    if len(train) > MOST_SAMPLES:
        train = np.sort(rng.choice(train, MOST_SAMPLES, replace=False))
    rows = [cohort.scan_rows[sample] for sample in train]
    negative = min(float(cohort.spectra[own].min()) for own in rows) < 0
    losses = {}
    for name, steps in TREATMENTS.items():
        if negative and name in NON_NEGATIVE:
            continue
        wide = [step for step in steps if step != _BINNED or cohort.spec_len >= FEWEST_POINTS]
        transforms = make_transforms([_as_spec(step) for step in wide])
        transforms.fit(cohort.spectra, np.concatenate(rows), cohort.axis)
        mean = np.stack([transforms(cohort.spectra[own]).mean(axis=0) for own in rows])
        losses[name] = _loss_of_linear_model(config, cohort, train, mean), wide
    best = min(losses, key=lambda name: losses[name][0])
    others = ", ".join(f"{name} {loss:.3f}" for name, (loss, _) in losses.items())
    return losses[best][1], f"{best} (inner loss: {others})"


def _logistic(samples: int) -> str:
    """The logistic regression that suits so many spectra, as on a linear path."""
    return "pca_logistic" if samples < FEW_SAMPLES else "logistic"


def _as_spec(step: Any) -> dict[str, Any]:
    return {"name": step} if isinstance(step, str) else step


def _loss_of_linear_model(
    config: Config, cohort: Cohort, train: np.ndarray, spectra: np.ndarray
) -> float:
    """Mean out-of-fold log loss, or of values the squared error relative to their variance."""
    # Here, since scikit-learn takes a second to import.
    from models.classical import ClassicalModel
    from models.stacking import mean_loss

    targets, groups = cohort.targets[train], cohort.groups[train]
    if cohort.task == "regression":
        targets = (targets - targets.mean(axis=0)) / np.maximum(targets.std(axis=0), 1e-12)
        name, task, columns = "spectra_ridge", "regression", [targets]
    else:
        name, task = f"spectra_{_logistic(len(train))}", "multiclass"
        each = targets.T if cohort.task == "multilabel" else [targets]
        # A class that none of these samples has is left out, and so is a constant label.
        columns = [np.unique(column, return_inverse=True)[1].reshape(-1) for column in each]
        columns = [column for column in columns if column.any()]
    losses = []
    for column in columns:
        logits, _ = ClassicalModel(name, task, config.seed).cross_fit(spectra, column, groups)
        losses.append(mean_loss(logits, column, task))
    return float(np.mean(losses)) if losses else 0.0
