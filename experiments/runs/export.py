"""The last stage: what a person reads and what another program loads."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from safetensors.torch import save

from datasets.cohort import read_units
from datasets.errors import file_errors
from datasets.files import write_whole
from experiments.analysis import summarise_training
from experiments.baselines import save_baselines
from experiments.report import write_named_figures, write_report
from experiments.report.figures import examine
from experiments.report.text import model_card, summary
from experiments.run_files import RunFile, predictions_table, write_package

if TYPE_CHECKING:
    from torch import Tensor

    from engine.metrics import EpochOutputs
    from experiments.analysis import Outcome
    from experiments.builders import Data

# Of the training set, in the file of what was fitted on it.
SUMMARY = "training_summary"


def export_run(outcome: Outcome, weights: dict[str, Tensor]) -> tuple[Path, str | None]:
    """Write predictions, weights, the summary, the model card, the pages and the package.

    Returns the page to open, or the run's folder where reports are turned off; and a line on what
    could not be written, or None.
    """
    run_dir, data = outcome.run_dir, outcome.data
    tables = prediction_tables(outcome)
    with file_errors(f"cannot export to {run_dir}"):
        for name, table in tables.items():
            write_whole(table.to_csv(index=False).encode(), run_dir, name)
        write_whole(save(weights), run_dir, RunFile.WEIGHTS)
        preprocessing = pack_preprocessing(data, outcome.outputs.get("val"))
        write_whole(preprocessing, run_dir, RunFile.PREPROCESSING)
        unsaved = save_baselines(outcome.baselines, run_dir) if outcome.baselines else None
        write_whole(summary(outcome).encode(), run_dir, RunFile.SUMMARY)
        write_whole(model_card(outcome).encode(), run_dir, RunFile.CARD)
        page, note = run_dir, None
        if outcome.config.report.enabled:
            examined = examine(outcome)
            page = write_report(outcome, examined)
            note = write_named_figures(outcome, examined)
        write_package(run_dir, run_dir.name)  # of all that stands by now
    return page, note or unsaved


def prediction_tables(outcome: Outcome) -> dict[str, pd.DataFrame]:
    """File name -> :func:`predictions_table` of the test or the validation set.

    Those of the baselines have a first column ``model``, and all samples for each model.
    """
    cohort = outcome.data.cohort
    tables = {
        name: predictions_table(outcome.outputs[subset], cohort)
        for subset, name in (("test", RunFile.PREDICTIONS), ("val", RunFile.VAL_PREDICTIONS))
    }
    for subset, of_baselines in outcome.baseline_outputs.items():
        each = {name: predictions_table(found, cohort) for name, found in of_baselines.items()}
        table = pd.concat(each, names=["model", "row"]).reset_index("model")
        tables[RunFile.BASELINE_PREDICTIONS[subset]] = table
    return tables


def pack_preprocessing(data: Data, val: EpochOutputs | None = None) -> bytes:
    """What was fitted on the training set; without it weights cannot be used on new samples.

    With a summary of the training set, and of what is predicted on the validation set, if any.
    """
    cohort = data.cohort
    fitted = {
        "covariates": data.encoder.state_dict(),
        "transforms": data.transforms.state_dict(),
        "task": cohort.task,
        "class_names": cohort.class_names,
        "label": cohort.label,
        "group": cohort.group,
        "units": read_units(cohort.root),
        SUMMARY: summarise_training(data, val).state_dict(),
    }
    if data.scaler is not None:
        fitted["targets"] = data.scaler.state_dict()
    packed = io.BytesIO()
    torch.save(fitted, packed)
    return packed.getvalue()
