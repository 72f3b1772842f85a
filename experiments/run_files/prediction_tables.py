"""Tables of predictions as files hold them."""

from collections.abc import Sequence

import numpy as np
import pandas as pd

from datasets.cohort import Cohort
from engine.metrics import CLASSES, EpochOutputs


def predictions_table(outputs: EpochOutputs, cohort: Cohort) -> pd.DataFrame:
    """One row a sample.

    Of classes ``sample_id``, ``target``, ``prediction``, ``prob_<class>``, target and prediction
    being names; of labels ``target_<label>``, ``prediction_<label>`` (0 or 1) and
    ``prob_<label>``; of values ``target_<column>`` and ``prediction_<column>``, in its unit.
    """
    row_of = {name: row for row, name in enumerate(cohort.sample_ids)}
    target = cohort.targets[[row_of[name] for name in outputs.sample_id]]
    return outputs_table(outputs, cohort.class_names, target)


def outputs_table(outputs: EpochOutputs, names: Sequence[str], target: np.ndarray) -> pd.DataFrame:
    """:func:`predictions_table` of any outputs, with the targets [N] or [N, T]."""
    predicted = outputs.predictions.numpy()
    table = pd.DataFrame({"sample_id": outputs.sample_id})
    if outputs.task in CLASSES:
        named = np.array(names, dtype=object)
        table["target"], table["prediction"] = named[target], named[predicted]
    else:
        for number, name in enumerate(names):
            table[f"target_{name}"] = target[:, number]
            table[f"prediction_{name}"] = predicted[:, number]
    if outputs.task != "regression":
        probabilities = outputs.probabilities.numpy()
        for number, name in enumerate(names):
            table[f"prob_{name}"] = probabilities[:, number]
    return table
