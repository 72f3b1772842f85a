"""Predictions of a cohort, written block by block."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from datasets.errors import UsageError, file_errors
from datasets.files import replaced
from experiments.prediction.predictions import Predictions

if TYPE_CHECKING:
    from experiments.prediction.fitted import NewCohort
    from experiments.prediction.loaded_model import LoadedModel

# On a terminal, how often the line of progress is drawn anew.
REDRAW_SECONDS = 0.2
Columns = Callable[[Predictions], Mapping[str, Any]]


def require_free(out: Path, option: str = "--out") -> None:
    """Refuse a file that is there already, or has no folder to write to; UsageError."""
    if out.exists():
        raise UsageError(f"{option}: {out} exists and is not overwritten; name another file")
    if not out.parent.is_dir():
        raise UsageError(f"{option}: there is no folder {out.parent}")
    if not os.access(out.parent, os.W_OK):
        raise UsageError(f"{option}: the folder {out.parent} cannot be written to")


def predict_file(
    model: LoadedModel, new: NewCohort, out: Path, columns: Sequence[Columns] = ()
) -> Predictions:
    """Predict a checked cohort and write the table, which is complete or absent.

    ``columns`` add columns to each block's table. Returns all predictions, without spectra.
    """
    require_free(out)
    parts: list[Predictions] = []
    samples = len(new.cohort.sample_ids) * len(model.predictors)
    with (
        file_errors(f"--out: cannot write {out}"),
        replaced(out) as part,
        part.open("w", encoding="utf-8", newline="") as file,
        tqdm(
            total=samples,
            unit=" samples",
            disable=not sys.stderr.isatty(),
            leave=False,
            mininterval=REDRAW_SECONDS,
        ) as bar,
    ):
        for predicted in model.stream(new, bar.update):
            table = predicted.table()
            for add in columns:
                for name, values in add(predicted).items():
                    table[name] = values
            table.to_csv(file, index=False, header=not parts)
            parts.append(predicted)
    return Predictions.joined(parts)
