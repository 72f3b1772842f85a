"""The recommended model, fitted to all samples."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from datasets.files import write_whole
from datasets.splits import SUBSETS
from experiments.baselines import fit_baselines, save_baselines
from experiments.builders import build_data
from experiments.config import LATE_FUSION, write_yaml
from experiments.folds.fold_baselines import members_of
from experiments.run_files import CONFIG_NAME, PREPROCESSING_NAME
from experiments.runs import pack_preprocessing

if TYPE_CHECKING:
    from experiments.folds.out_of_fold import OutOfFold


def refit_recommended(found: OutOfFold, folder: Path) -> str:
    """Fit the recommended baseline, transforms and encoder to all samples; returns a line on it.

    Writes ``baselines.skops``, ``preprocessing.pt`` and ``config.yaml``. Of a network, which is not
    trained here, only ``config.yaml``: its settings with the median number of epochs of its runs.
    """
    plan, best = found.plan, found.best_first[0]
    folder.mkdir(parents=True, exist_ok=True)
    if best in plan.candidates:
        own = {key: run for key, run in found.runs.items() if key[0] == best}
        config = plan.runs[next(iter(own))]
        settings = config.plain()
        settings["exp_name"] = f"{plan.base.exp_name}-recommended"
        settings["trainer"]["max_epochs"] = round(median(run.epochs for run in own.values()))
        settings["data"]["split"] = plan.base.data.split.plain() | {"fold": None}
        write_whole(write_yaml(settings).encode(), folder, CONFIG_NAME)
        return f"to train {best} on new samples: experiments/run.py {folder / CONFIG_NAME}"
    config = plan.folds[0].config
    names = members_of(best, found.best_first)
    data = build_data(config, fitted_on=SUBSETS)
    singles = [name for name in names if name != LATE_FUSION]
    settings_of = config.baselines.model_copy(update={"models": singles})
    fitted = fit_baselines(data, settings_of, found.metric, config.seed)
    if LATE_FUSION in names:
        fitted = replace(fitted, fused=singles)
    write_whole(pack_preprocessing(data), folder, PREPROCESSING_NAME)
    write_whole(write_yaml(plan.base.plain()).encode(), folder, CONFIG_NAME)
    return save_baselines(fitted, folder) or f"recommended model, of all samples: {folder}"
