"""Runs of a network on a changed cohort: permuted targets, or fewer training samples."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from datasets.cohort import SAMPLE_ID, SAMPLES_FILE, read_table
from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.splits import write_splits
from engine.metrics import CLASSES
from experiments.run_files import RunFile

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from datasets.cohort import Cohort
    from experiments.config import Config

# In the folder of a changed run, until it is finished.
COHORT, RUN = "cohort", "run"


class ChangedRun(NamedTuple):
    """A run of a fold on other ``targets``, [N] or [N, T], or on fewer samples.

    ``split`` is the subset of each sample, [N], empty where it is left out. ``columns`` are those
    of the labels or values. ``path`` is where the predictions of the test set are kept; its name
    has to depend on all that the run does.
    """

    config: Config
    cohort: Cohort
    columns: Sequence[str]
    targets: np.ndarray
    split: np.ndarray
    path: Path

    @property
    def folder(self) -> Path:
        """Of the changed cohort and of the run, which are removed when the run is finished."""
        return self.path.with_suffix("")


def run_changed(run: Callable[[Config], int | None], task: ChangedRun) -> int | None:
    """Start or continue the run; keeps its predictions. The exit code if a signal stopped it.

    ``run`` starts or continues the run of a configuration, and returns that code.
    """
    folder = task.folder.absolute()
    try:
        code = run(_write_cohort(task, folder))
        if code is None:
            predictions = folder / RUN / RunFile.PREDICTIONS
            write_whole(predictions.read_bytes(), task.path.parent, task.path.name)
            shutil.rmtree(folder)
        return code
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error


def _write_cohort(task: ChangedRun, folder: Path) -> Config:
    """Write the changed cohort, whose other files are links; returns the run's configuration."""
    root, cohort, config = folder / COHORT, task.cohort, task.config
    root.mkdir(parents=True, exist_ok=True)
    for file in cohort.root.iterdir():
        link = root / file.name
        if file.is_file() and file.name != SAMPLES_FILE and not link.exists():
            link.symlink_to(file.resolve())
    table, kept = read_table(cohort.root / SAMPLES_FILE), task.split != ""
    row_of = {name: row for row, name in enumerate(table[SAMPLE_ID])}
    rows = [row_of[name] for name in cohort.sample_ids]
    for column, texts in zip(task.columns, _texts(task), strict=True):
        cells = np.full(len(table), "", dtype=object)  # without a target a sample is left out
        cells[rows] = np.where(kept, texts, "")
        table[column] = cells
    text = table.to_csv(index=False, quoting=csv.QUOTE_NONNUMERIC)
    write_whole(text.encode(), root, SAMPLES_FILE)
    splits = folder / RunFile.SPLITS
    names = np.array(cohort.sample_ids, dtype=object)
    write_splits(splits, names[kept].tolist(), cohort.groups[kept], task.split[kept])
    numbers = {name: number for number, name in enumerate(cohort.class_names)}
    data = config.data.model_copy(
        update={
            "root": root,
            "simulated": {},
            "log": list(config.data.log or ()),  # it follows from the root unless it is set
            "labels": numbers if cohort.task in CLASSES else None,
            "split": config.data.split.model_copy(update={"file": splits}),
        }
    )
    report = config.report.model_copy(update={"enabled": False, "resamples": 0})
    own = {"exp_name": RUN, "runs_dir": folder, "data": data, "report": report}
    return config.model_copy(update=own)


def _texts(task: ChangedRun) -> list[np.ndarray]:
    """What the columns of the targets hold, one text for each sample."""
    if task.cohort.task in CLASSES:
        return [np.array(task.cohort.class_names, dtype=object)[task.targets]]
    # The shortest text of a number that reads as the same one.
    return [np.array([repr(v) for v in of.tolist()], dtype=object) for of in task.targets.T]
