"""What an evaluation leaves for other programs: a row for each sample, and the report by class."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.metrics import CLASSES, EpochOutputs
from engine.reporting import as_json
from experiments.report.text import class_figures
from experiments.runs import outputs_table

PREDICTIONS, REPORT = "predictions.csv", "classification_report"
ACCURACY = "accuracy"


def class_report(outputs: EpochOutputs, names: Sequence[str]) -> dict[str, Any]:
    """The figures of each class in the form of scikit-learn's ``classification_report``.

    Args:
        outputs: Of a classification, or of labels.
        names: Of the classes or the labels.

    Returns:
        Name of a class, ``macro avg`` or ``weighted avg`` -> ``precision``, ``recall``,
        ``f1-score`` and ``support``, NaN where undefined
        (:func:`experiments.report.text.class_figures`); of classes also ``accuracy``.
    """
    table = class_figures(outputs, names)
    report: dict[str, Any] = dict(zip(table.index, table.to_dict("records"), strict=True))
    if outputs.task in CLASSES:
        report[ACCURACY] = float((outputs.predictions == outputs.target).double().mean())
    return report


def write_evaluation(folder: Path, outputs: EpochOutputs, names: Sequence[str]) -> None:
    """Write ``predictions.csv`` and ``classification_report.json``, ``.csv`` and ``.txt``.

    Args:
        folder: It exists.
        outputs: Of the evaluated samples; a regression has no report by class.
        names: Of the classes, the labels or the targets.

    Raises:
        UsageError: They cannot be written.
    """
    samples = outputs_table(outputs, names, outputs.target.numpy())
    texts = {PREDICTIONS: samples.to_csv(index=False)}
    if outputs.task != "regression":
        table = class_figures(outputs, names)
        texts |= {
            f"{REPORT}.json": json.dumps(as_json(class_report(outputs, names)), indent=2) + "\n",
            f"{REPORT}.csv": table.to_csv(index_label="class"),
            f"{REPORT}.txt": table.to_string(float_format="%.4f", na_rep="undefined") + "\n",
        }
    try:
        for name, text in texts.items():
            write_whole(text.encode(), folder, name)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
