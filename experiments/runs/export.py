"""The last stage: what a person reads and what another program loads."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from safetensors.torch import save

from datasets.errors import file_errors
from datasets.files import write_whole
from engine.metrics import LAST_EPOCH
from engine.reporting import with_bounds
from experiments.analysis import about_refitted
from experiments.baselines import save_baselines
from experiments.report import write_named_figures, write_report
from experiments.report.figures import examine
from experiments.report.text import (
    TEMPLATES,
    class_table,
    escape_markdown,
    model_card,
)
from experiments.run_files import RunFile, predictions_table, write_package

if TYPE_CHECKING:
    from torch import Tensor

    from experiments.analysis import Outcome
    from experiments.builders import Data

TEMPLATES.filters["bounded"] = with_bounds


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
        write_whole(pack_preprocessing(data), run_dir, RunFile.PREPROCESSING)
        unsaved = save_baselines(outcome.baselines, run_dir) if outcome.baselines else None
        write_whole(summary(outcome).encode(), run_dir, RunFile.SUMMARY)
        write_whole(model_card(outcome).encode(), run_dir, RunFile.CARD)
        page, note = run_dir, None
        if outcome.config.report.enabled:
            examined = examine(outcome)
            page = write_report(outcome, examined)
            note = write_named_figures(outcome, examined)[1]
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


def pack_preprocessing(data: Data) -> bytes:
    """What was fitted on the training set; without it weights cannot be used on new samples."""
    fitted = {
        "covariates": data.encoder.state_dict(),
        "transforms": data.transforms.state_dict(),
        "task": data.cohort.task,
        "class_names": data.cohort.class_names,
    }
    if data.scaler is not None:
        fitted["targets"] = data.scaler.state_dict()
    packed = io.BytesIO()
    torch.save(fitted, packed)
    return packed.getvalue()


def summary(outcome: Outcome) -> str:
    """The run on one Markdown page."""
    config, cohort = outcome.config, outcome.data.cohort
    monitor, told = config.checkpoint.monitor, [escape_markdown(outcome.about_positive())]
    intervals = outcome.about_intervals()
    if any(not math.isnan(found.low) for found in outcome.intervals.values()):
        intervals += " Intervals are in brackets."
    told.append(intervals)
    if outcome.data.scaler is not None:
        names = cohort.class_names
        each = ", each by itself; r2 is the mean over them" if len(names) > 1 else ""
        units = f"the metrics are in the units of {', '.join(names)}{each}."
        told.append(f"Losses are of standardised targets; {units}")
    if outcome.selected_test:
        told.append(f"{about_refitted(outcome.epochs).capitalize()}.")
    classes = cohort.task != "regression"
    return TEMPLATES.get_template("summary.md.j2").render(
        outcome=outcome,
        config=config,
        task=cohort.task,
        chosen_by=(
            "the last epoch (the validation set is too small to select one by)"
            if monitor == LAST_EPOCH
            else f"the checkpoint with the best `{monitor}`"
        ),
        told=list(filter(None, told)),
        by_class=class_table(outcome.outputs["test"], cohort.class_names) if classes else "",
        files=RunFile,
    )
