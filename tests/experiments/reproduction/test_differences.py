from __future__ import annotations

import json
import math
import shutil

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file, save_file

from experiments.reproduction import compare_folders


@pytest.fixture
def pair(packaged_run, tmp_path):
    """A run and a copy of it, in which something may be changed."""
    run = packaged_run / "runs" / "small"
    return run, shutil.copytree(run, tmp_path / "copy")


def differing(pair):
    return {d.file: d for d in compare_folders(*pair) if not d.identical}


def test_a_copy_is_identical_and_all_of_it_was_compared(pair):
    found = compare_folders(*pair)
    assert all(difference.identical for difference in found)
    names = ["metrics.json", "predictions.csv", "predictions_val.csv"]
    assert [d.file for d in found] == [*names, "checkpoints/model.safetensors"]
    assert all(difference.count > 5 for difference in found)
    assert found[1].told() == f"predictions.csv: identical ({found[1].count} numbers)"


def test_the_largest_difference_is_named(pair):
    table = pd.read_csv(pair[1] / "predictions.csv")
    table["prob_case"] += 1e-9 * (table.index == 1) + 1e-3 * (table.index == 2)
    table.to_csv(pair[1] / "predictions.csv", index=False)
    found = differing(pair)
    assert list(found) == ["predictions.csv"]
    assert found["predictions.csv"].largest == pytest.approx(1e-3)
    assert found["predictions.csv"].where == f"prob_case of {table['sample_id'][2]}"


def test_predicted_classes_are_counted_and_missing_rows_told(pair):
    table = pd.read_csv(pair[1] / "predictions.csv")
    table["prediction"] = table["prediction"].map({"case": "control", "control": "case"})
    table.iloc[:-1].to_csv(pair[1] / "predictions.csv", index=False)
    found = differing(pair)["predictions.csv"]
    assert found.changed == len(table) - 1
    assert "is in one of them only" in found.other
    assert f"{len(table) - 1} predictions differ; " in found.told()


def test_a_missing_table_is_told(pair):
    (pair[1] / "predictions_val.csv").unlink()
    assert differing(pair)["predictions_val.csv"].other == "it was not written again"


def test_metrics_are_compared_deeply_and_times_are_not(pair):
    path = pair[1] / "metrics.json"
    values = json.loads(path.read_text())
    values["last"]["metrics"]["time/epoch"] = 99.0
    path.write_text(json.dumps(values))
    assert not differing(pair)
    values["test"]["metrics"]["auroc"] -= 0.5
    values["monitor"] = "val/mcc"
    path.write_text(json.dumps(values))
    found = differing(pair)["metrics.json"]
    assert (found.largest, found.where) == (pytest.approx(0.5), "test.metrics.auroc")
    assert "val/mcc" in found.other


def test_weights_are_compared(pair):
    path = pair[1] / "checkpoints" / "model.safetensors"
    weights = load_file(path)
    name = next(key for key, tensor in weights.items() if tensor.is_floating_point())
    weights[name].view(-1)[0] += 0.5
    save_file(weights, path)
    found = differing(pair)["checkpoints/model.safetensors"]
    assert (found.where, found.largest) == (name, pytest.approx(0.5))
    save_file({"other": torch.zeros(2)}, path)
    assert differing(pair)["checkpoints/model.safetensors"].other == "the model has other weights"


@pytest.mark.parametrize(
    ("old", "new", "apart"),
    [
        ([math.inf, 1.0], [math.inf, 3.0], 2.0),
        ([math.nan, 1.0], [math.nan, 1.5], 0.5),
        ([0.0, 1.0], [math.nan, 1.0], math.inf),
        ([math.inf, 1.0], [-math.inf, 1.0], math.inf),
    ],
)
def test_weights_that_are_no_finite_numbers_hide_nothing(pair, old, new, apart):
    pair = (shutil.copytree(pair[0], pair[1].with_name("before")), pair[1])
    for folder, values in zip(pair, (old, new), strict=True):
        weights = {"own": torch.tensor(values), "other": torch.zeros(2)}
        save_file(weights, folder / "checkpoints" / "model.safetensors")
    found = differing(pair)["checkpoints/model.safetensors"]
    assert (found.where, found.largest) == ("own", apart)
