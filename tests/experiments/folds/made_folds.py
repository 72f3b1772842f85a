"""Cross-validations that were never run: what the models predict is drawn."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pandas as pd

from engine.metrics import EpochOutputs
from experiments.config import check_config
from experiments.folds.fold_plan import Fold, Plan
from experiments.folds.out_of_fold import OutOfFold, choose, mean_outputs
from experiments.run_files import SavedOutputs, outputs_of, outputs_table
from tests.experiments.made_runs import LABELS, drawn
from tests.experiments.report.made_outputs import NAMES

# Model -> seed of what it predicts, and how much of the truth it knows.
MODELS = {"tft": (1, 0.6), "spectra_svm": (2, 1.2), "covariates_logistic": (3, 0.2)}


def saved(outputs: EpochOutputs, names: Sequence[str]) -> SavedOutputs:
    """As read from a file."""
    target = outputs.target.numpy()
    if outputs.task == "multilabel":
        target = target.astype(np.int64)
    table = outputs_table(outputs, names, target)
    return outputs_of(table.map(lambda cell: cell if isinstance(cell, str) else repr(cell)))[0]


def rows_of(outputs: SavedOutputs, rows: Sequence[int], prefix: str = "") -> SavedOutputs:
    """Some samples, renamed."""
    taken = outputs.take(list(rows))
    taken.sample_id[:] = [f"{prefix}{name}" for name in taken.sample_id]
    return taken


def make_folds(
    task: str = "binary",
    count: int = 4,
    models: Mapping[str, tuple[int, float]] = MODELS,
    group_size: int = 1,
    metric: str = "auroc",
    kind: str = "fold",
    fold_names: Sequence[str] = (),
    seeds: int = 1,
    change: Callable[[SavedOutputs], SavedOutputs] = lambda outputs: outputs,
    **settings: Any,
) -> OutOfFold:
    """Forty samples in folds; those of validation are of a draw of their own."""
    names = NAMES[task]
    resamples = settings.pop("resamples", 50)
    config = check_config(
        {"exp_name": "made", "data": dict(LABELS[task]), "report": {"resamples": resamples}}
    )
    outputs = {m: change(saved(drawn(task, *of), names)) for m, of in models.items()}
    validated = {m: change(saved(drawn(task, s + 50, k), names)) for m, (s, k) in models.items()}
    samples = next(iter(outputs.values())).sample_id
    groups = [f"g{n // group_size}" for n in range(len(samples))]
    cohort = SimpleNamespace(
        sample_ids=samples,
        groups=np.array(groups),
        class_names=names,
        samples=pd.DataFrame({"sample_id": samples}),
        numeric=[],
    )
    numbers = np.arange(len(samples)) // (2 * group_size) % count  # both classes in each
    folds = [
        Fold(
            (list(fold_names) or [str(n) for n in range(count)])[number],
            0,
            np.where(numbers == number, "test", "train"),
            cast(Any, SimpleNamespace(fingerprint="0")),
            config,
        )
        for number in range(count)
    ]
    plan = Plan(config, cast(Any, cohort), kind, folds, ["tft"], list(range(seeds)), {})
    val, test = [], []
    single = {"tft": [f"tft@seed{n}" for n in range(seeds)] if seeds > 1 else []}
    for number in range(count):
        rows = np.flatnonzero(numbers == number).tolist()
        test.append({m: rows_of(of, rows) for m, of in outputs.items()})
        val.append({m: rows_of(of, rows, "v") for m, of in validated.items()})
        if seeds > 1:
            own = [saved(drawn(task, 20 + n, 1.0), names) for n in range(seeds)]
            test[-1] |= {n: rows_of(of, rows) for n, of in zip(single["tft"], own, strict=True)}
            test[-1]["tft"] = mean_outputs([test[-1][n] for n in single["tft"]])
    return choose(plan, metric, list(names), val, test, {}, single)
