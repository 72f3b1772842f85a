"""Which predictions prediction sets are calibrated by, and what the run chose on them."""

from __future__ import annotations

import json
import math
import shutil

import pandas as pd
import pytest

from datasets.errors import UsageError
from experiments.prediction import (
    calibration_samples,
    carried_points,
    load_model,
    trained_samples,
)

pytestmark = pytest.mark.slow


@pytest.fixture
def recommended(run_dir, tmp_path):
    """A cross-validation's folder, whose recommended model is a copy of the run."""
    folder = tmp_path / "cv" / "recommended"
    shutil.copytree(run_dir, folder)
    for name in ("predictions_val.csv", "predictions.csv", "splits.csv", "metrics.json"):
        (folder / name).unlink()
    own = pd.read_csv(run_dir / "predictions.csv", dtype=str, keep_default_na=False)
    shared = own[["sample_id", "target"]].assign(group="g-" + own["sample_id"])
    parts = [shared]
    for model, scale in (("recommended", 0.1), ("tft", 1.0)):
        part = own[["prediction", "prob_control", "prob_case"]].copy()
        part["prob_case"] = (pd.to_numeric(part["prob_case"]) * scale).astype(str)
        parts.append(part.add_prefix(f"{model}:"))
    table = pd.concat(parts, axis=1)
    repeats = pd.concat([table, table.assign(**{"tft:prob_case": "0.5"})])
    repeats.to_csv(folder.parent / "predictions_oof.csv", index=False)
    return folder.parent, own


def test_a_run_is_calibrated_by_its_validation_set(run_dir):
    found = calibration_samples(load_model(run_dir))
    own = pd.read_csv(run_dir / "predictions_val.csv", dtype=str)
    splits = pd.read_csv(run_dir / "splits.csv", dtype=str).set_index("sample_id")
    assert found.outputs.sample_id == own["sample_id"].tolist()
    assert found.groups == splits.loc[own["sample_id"], "group"].tolist()
    assert found.outputs.scores[:, 1].tolist() == own["prob_case"].astype(float).tolist()
    assert found.source == "the validation set"


def test_a_packages_calibration_is_the_runs(run_dir):
    found = calibration_samples(load_model(run_dir / "small.zip"))
    expected = calibration_samples(load_model(run_dir))
    assert found.groups == expected.groups
    assert found.outputs.scores.equal(expected.outputs.scores)


def test_a_recommended_model_is_calibrated_by_its_test_folds(recommended):
    folder, own = recommended
    found = calibration_samples(load_model(folder))
    assert found.outputs.sample_id == own["sample_id"].tolist()
    assert found.groups == ("g-" + own["sample_id"]).tolist()
    expected = own["prob_case"].astype(float).tolist()
    assert found.outputs.scores[:, 1].tolist() == pytest.approx(expected)
    assert found.source == "the test folds of the cross-validation"


def test_folds_of_other_models_do_not_calibrate(recommended):
    path = recommended[0] / "predictions_oof.csv"
    table = pd.read_csv(path, dtype=str)
    table.rename(columns=lambda name: name.replace("tft:", "other:")).to_csv(path, index=False)
    with pytest.raises(UsageError, match="no predictions of tft, only of other, recommended"):
        calibration_samples(load_model(recommended[0]))


def test_without_predictions_nothing_calibrates(recommended):
    (recommended[0] / "predictions_oof.csv").unlink()
    with pytest.raises(UsageError, match=r"recommended has no predictions_val.csv"):
        calibration_samples(load_model(recommended[0]))


def test_samples_of_the_training_are_known_by_name(run_dir, recommended, tmp_path):
    splits = pd.read_csv(run_dir / "splits.csv", dtype=str).set_index("split")["sample_id"]
    assert trained_samples(load_model(run_dir)) == set(splits["train"])
    refit = tmp_path / "refit"
    shutil.copytree(run_dir, refit)
    path = refit / "resolved.yaml"
    assert "  refit: false\n" in path.read_text()
    path.write_text(path.read_text().replace("  refit: false\n", "  refit: true\n"))
    assert trained_samples(load_model(refit)) == {*splits["train"], *splits["val"]}
    folder, own = recommended
    assert trained_samples(load_model(folder)) == set(own["sample_id"])


@pytest.mark.parametrize("content", ["", "x\n1\n"])
def test_damaged_predictions_of_folds_are_refused(recommended, content):
    (recommended[0] / "predictions_oof.csv").write_text(content)
    with pytest.raises(UsageError, match=r"predictions_oof\.csv is not as a run writes it"):
        calibration_samples(load_model(recommended[0]))


def test_the_carried_point_is_the_first_that_the_run_chose(run_dir, tmp_path):
    points = carried_points(load_model(run_dir))
    chosen = json.loads((run_dir / "metrics.json").read_text())["test"]["thresholds"]["case"][0]
    assert points["case"].threshold == chosen["threshold"]
    assert points["case"].name == "youden"
    copy = tmp_path / "copy"
    shutil.copytree(run_dir, copy)
    metrics = json.loads((copy / "metrics.json").read_text())
    metrics["test"]["thresholds"]["case"][0]["threshold"] = "inf"
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert math.isinf(carried_points(load_model(copy))["case"].threshold)
    metrics["test"]["thresholds"]["case"][0]["threshold"] = None
    (copy / "metrics.json").write_text(json.dumps(metrics))
    assert math.isnan(carried_points(load_model(copy))["case"].threshold)
