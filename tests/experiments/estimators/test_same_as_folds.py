"""``cross_val_score`` gives the figures of ``cross_validate.py``'s folds."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import LeaveOneGroupOut, StratifiedGroupKFold
from sklearn.model_selection import cross_validate as sklearn_cross_validate

from experiments.builders import read_cohort
from experiments.config import load_config, write_yaml
from experiments.estimators import ScanfireClassifier
from experiments.folds import cross_validate
from tests.experiments.conftest import small_settings

pytestmark = pytest.mark.slow

FIGURES = {
    "roc_auc": "auroc",
    "accuracy": "accuracy",
    "f1": "f1",
    "average_precision": "auprc",
}
LEAN = [("baselines.enabled", "false"), ("audit.enabled", "false"), ("trainer.device", "cpu")]


def compare(estimator, cohort, splitter, runs_dir):
    """Each fold's figures and predictions are those of its run."""
    found = sklearn_cross_validate(
        estimator,
        cohort,
        cohort.targets,
        groups=cohort.groups,
        cv=splitter,
        scoring=list(FIGURES),
        return_estimator=True,
        return_indices=True,
        error_score="raise",
    )
    (folder,) = runs_dir.glob("*-folds")
    folds = pd.read_csv(folder / "folds.csv")
    assert len(folds) == len(found["estimator"])
    for scorer, metric in FIGURES.items():
        # Summed in another order; what follows compares bit by bit.
        np.testing.assert_allclose(found[f"test_{scorer}"], folds[metric], rtol=1e-14, atol=0)
    tested = zip(found["estimator"], found["indices"]["test"], folds["run"], strict=True)
    for model, rows, run in tested:
        table = pd.read_csv(runs_dir / run / "predictions.csv", dtype={"sample_id": str})
        assert table["sample_id"].tolist() == [cohort.sample_ids[row] for row in rows]
        positive = table[f"prob_{cohort.class_names[1]}"].to_numpy()
        np.testing.assert_array_equal(model.predict_proba(cohort[rows])[:, 1], positive)
        metrics = json.loads((runs_dir / run / "metrics.json").read_text())
        assert model.fitted_.config.trainer.max_epochs == metrics["last"]["epoch"]


def test_folds_of_a_small_cohort(cohort_dir, tmp_path):
    settings = small_settings(cohort_dir, tmp_path / "runs")
    file = tmp_path / "small.yaml"
    file.write_text(write_yaml(settings))
    assert cross_validate(str(file), LEAN, count=3) == 0
    cohort = read_cohort(load_config(str(file)).data)
    folds = StratifiedGroupKFold(3, shuffle=True, random_state=settings["seed"])
    compare(ScanfireClassifier(str(file)), cohort, folds, tmp_path / "runs")


def test_plates_of_hcc(real_data, tmp_path):
    overrides = [
        *LEAN,
        ("data.root", str(real_data / "hcc_serum_glycome_maldi")),
        ("data.split.kind", "leave_one_group_out"),
        ("trainer.max_epochs", "3"),
        ("runs_dir", str(tmp_path)),
    ]
    assert cross_validate("hcc", overrides, models=["mean_linear"]) == 0
    cohort = read_cohort(load_config("hcc", overrides).data)
    estimator = ScanfireClassifier("hcc", model="mean_linear", max_epochs=3)
    compare(estimator, cohort, LeaveOneGroupOut(), tmp_path)
