"""The last stage: what a person reads and what another program loads."""

from __future__ import annotations

import io
import math
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd
import torch
from safetensors.torch import save

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.metrics import LAST_EPOCH
from engine.reporting import figure_text, with_bounds
from experiments.analysis import about_refitted
from experiments.baselines import leaderboard_section, save_baselines
from experiments.report import write_named_figures, write_report
from experiments.report.figures import examine
from experiments.report.text import (
    calibration_section,
    class_table,
    escape_markdown,
    model_card,
    threshold_section,
)
from experiments.run_files import (
    BASELINE_PREDICTIONS,
    CARD_NAME,
    PREDICTIONS_NAME,
    PREPROCESSING_NAME,
    VAL_PREDICTIONS_NAME,
    WEIGHTS_NAME,
    predictions_table,
    write_package,
)

if TYPE_CHECKING:
    from experiments.analysis import Outcome
    from experiments.builders import Data
    from experiments.config import Config


def export_run(outcome: Outcome) -> tuple[Path, str | None]:
    """Write predictions, weights, the summary, the model card, the pages and the package.

    Returns the page to open, or the run's folder where reports are turned off; and a line on what
    could not be written, or None.
    """
    run_dir, data = outcome.run_dir, outcome.data
    tables = prediction_tables(outcome)
    try:
        for name, table in tables.items():
            write_whole(table.to_csv(index=False).encode(), run_dir, name)
        write_whole(save(outcome.weights), run_dir / "checkpoints", WEIGHTS_NAME)
        write_whole(pack_preprocessing(data), run_dir, PREPROCESSING_NAME)
        unsaved = save_baselines(outcome.baselines, run_dir) if outcome.baselines else None
        write_whole(summary(outcome).encode(), run_dir, "summary.md")
        write_whole(model_card(outcome).encode(), run_dir, CARD_NAME)
        page, note = run_dir, None
        if outcome.config.report.enabled:
            examined = examine(outcome)
            page = write_report(outcome, examined)
            note = write_named_figures(outcome, examined)[1]
        write_package(run_dir, run_dir.name)  # of all that stands by now
        return page, note or unsaved
    except OSError as error:
        raise UsageError(f"cannot export to {run_dir}: {error.strerror}") from error


def prediction_tables(outcome: Outcome) -> dict[str, pd.DataFrame]:
    """File name -> :func:`predictions_table` of the test or the validation set.

    Those of the baselines have a first column ``model``, and all samples for each model.
    """
    cohort = outcome.data.cohort
    tables = {
        name: predictions_table(outcome.outputs[subset], cohort)
        for subset, name in (("test", PREDICTIONS_NAME), ("val", VAL_PREDICTIONS_NAME))
    }
    for subset, of_baselines in outcome.baseline_outputs.items():
        each = {name: predictions_table(found, cohort) for name, found in of_baselines.items()}
        tables[BASELINE_PREDICTIONS[subset]] = pd.concat(each, names=["model", "row"]).reset_index(
            "model"
        )
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
    config, results = outcome.config, outcome.results
    selected = outcome.selected_test
    rows = "\n".join(
        f"| {escape_markdown(name)} | {figure_text(results['val'][name])} |"
        f"{f' {figure_text(selected[name])} |' if selected else ''} "
        f"{with_bounds(outcome.test_interval(name))} |"
        for name in results["test"]
    )
    head = "test, selected weights | test, refitted" if selected else "test"
    refitted = f"\n{about_refitted(outcome.epochs).capitalize()}.\n" if selected else ""
    cohort = "\n".join(f"- {line}" for line in outcome.data.describe())
    units = ""
    if outcome.data.scaler is not None:
        names = outcome.data.cohort.class_names
        each = ", each by itself; r2 is the mean over them" if len(names) > 1 else ""
        units = (
            "\nLosses are of standardised targets; the metrics are in the units of "
            f"{', '.join(names)}{each}.\n"
        )
    about = outcome.about_positive()
    positive = f"\n{escape_markdown(about)}\n" if about else ""
    intervals = outcome.about_intervals()
    if any(not math.isnan(found.low) for found in outcome.intervals.values()):
        intervals += " Intervals are in brackets."
    intervals = f"\n{intervals}\n" if intervals else ""
    board, files, of_baselines = outcome.leaderboard, BASELINE_PREDICTIONS.values(), ""
    baselines = f"\n{leaderboard_section(board)}" if board else ""
    if outcome.baseline_outputs:
        of_baselines = f", {' and '.join(f'`{name}`' for name in files)} the same of each baseline"
    by_class = ""
    if outcome.data.cohort.task != "regression":
        table = class_table(outcome.outputs["test"], outcome.data.cohort.class_names)
        by_class = f"\n## Test by class\n\n{table}\n"
    return f"""# {outcome.run_dir.name}

Model `{config.model.name}` ({outcome.parameters:,} parameters), loss `{config.loss.name}`,
optimiser `{config.optimizer.name}`; {outcome.epochs} of {config.trainer.max_epochs} epochs,
{outcome.optimizer_steps} optimizer steps, seed {config.seed}.

## Data

{cohort}

## Results

Of {_selection(config)}; undefined and nan mean
that a figure cannot be computed on this data.
{positive}{intervals}{units}{refitted}
| metric | validation | {head} |
|---|---|---|{"---|" if selected else ""}
{rows}
{by_class}{baselines}{_decision_sections(outcome)}
## Files

`{PREDICTIONS_NAME}` holds every test sample, `{VAL_PREDICTIONS_NAME}` every validation sample (to
build a stack from){of_baselines}, `metrics.csv` every epoch, `config.yaml` all
settings (feed it back to `experiments/run.py` for the same run), `environment.json` the versions
and checksums, `checkpoints/{WEIGHTS_NAME}` the weights and `{PREPROCESSING_NAME}` what was
fitted on the training part. `{CARD_NAME}` says what the model is for and how to load it, and
`{outcome.run_dir.name}.zip` holds all of these with their checksums.
"""


def _selection(config: Config) -> str:
    monitor = config.checkpoint.monitor
    if monitor == LAST_EPOCH:
        return "the last epoch (the validation set is too small to select one by)"
    return f"the checkpoint with the best `{monitor}`"


def _decision_sections(outcome: Outcome) -> str:
    """On thresholds and calibration, where there are probabilities to decide by."""
    found = outcome.findings
    if not found.decisions:
        return ""
    return f"""
## Threshold

{threshold_section(found.decisions, outcome.data.cohort.task)}

## Calibration

{calibration_section(found.calibration, outcome.data.cohort.task)}
"""
