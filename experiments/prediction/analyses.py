"""What is computed beside the predictions of a cohort, on request or where its labels allow it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from experiments.prediction.loaded_model import LoadedModel
    from experiments.prediction.new_cohort import NewCohort
    from experiments.prediction.prediction_file import Columns
    from experiments.prediction.predictions import Predictions


@dataclass(frozen=True)
class Asked:
    """What the command line asks for beside predictions; ``out`` is the file of these."""

    out: Path


def extra_columns(model: LoadedModel, new: NewCohort, asked: Asked) -> list[Columns]:
    """Functions of a block's predictions to further columns of the table.

    Called once, before the first block, so that all that cannot be done is refused before anything
    is written.
    """
    return []


def analyse(
    model: LoadedModel, new: NewCohort, predictions: Predictions, asked: Asked
) -> Iterator[str]:
    """Analyse all predictions, write pages beside ``asked.out``; yields lines for a person."""
    yield from ()
