from __future__ import annotations

import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.errors import CohortError, UsageError
from experiments.prediction import load_model
from experiments.prediction import loaded_model as module
from models import MODELS
from tests.experiments.conftest import SMALL_TFT
from tests.experiments.prediction.conftest import TASKS
from tests.experiments.prediction.made_cohorts import (
    change_samples,
    held_out,
    leave_out_spectra,
    read_samples,
)

pytestmark = pytest.mark.slow

ENSEMBLE = {
    "name": "ensemble",
    "members": [
        {"name": "pca_mlp", "params": {"components": 4}, "members": 2},
        {"name": "mean_linear"},
        {"name": "spectra_logistic"},
        {"name": "covariates_extra_trees"},
    ],
}


def as_text(table: pd.DataFrame) -> list[list[str]]:
    return [line.split(",") for line in table.to_csv(index=False).splitlines()]


def check_equal(run_dir, cohort):
    """The run's own columns are equal to the digit."""
    written = [line.split(",") for line in (run_dir / "predictions.csv").read_text().splitlines()]
    table = load_model(run_dir).predict(cohort).table()
    assert len(table) > 5
    assert as_text(table[written[0]]) == written
    return table


@pytest.mark.parametrize("task", TASKS)
def test_the_test_set_is_predicted_as_the_run_did(train, root, tmp_path, task):
    run_dir = train(task)
    check_equal(run_dir, held_out(root, run_dir, tmp_path / "new"))


@pytest.mark.parametrize("name", [name for name in MODELS if name != "tft"])
def test_every_family_is_loaded(train, root, tmp_path, name, few_trees):
    run_dir = train(model={"name": name})
    check_equal(run_dir, held_out(root, run_dir, tmp_path / "new"))


@pytest.mark.parametrize(
    "changes",
    [
        {"model": ENSEMBLE},
        {"model": {"name": "pca_mlp", "params": {"components": 4}, "members": 2}},
        {"data": {"batching": {"kind": "bucket", "token_budget": 1024}}},
        {"data": {"transforms": ["snip", {"name": "resample", "params": {"points": 30}}, "tic"]}},
        {"data": {"covariate_encoding": "piecewise", "transforms": []}},
        {"ema": {"decay": 0.9}},
        {"trainer": {"max_epochs": 1, "batch_size": 8, "device": "cpu", "refit": True}},
        {"trainer": {"max_epochs": 1, "device": "cpu", "precision": "bf16"}},
    ],
    ids=["ensemble", "members", "buckets", "transforms", "piecewise", "ema", "refit", "bf16"],
)
def test_the_runs_settings_are_those_of_its_predictions(train, root, tmp_path, changes, few_trees):
    run_dir = train(**changes)
    check_equal(run_dir, held_out(root, run_dir, tmp_path / "new"))


def test_a_package_alone_predicts_in_an_empty_folder(run_dir, new_cohort, tmp_path, monkeypatch):
    package = tmp_path / "elsewhere" / "model.zip"
    package.parent.mkdir()
    shutil.copy(run_dir / "small.zip", package)
    monkeypatch.chdir(package.parent)
    table = load_model("model.zip").predict(new_cohort).table()
    expected = check_equal(run_dir, new_cohort)
    assert as_text(table) == as_text(expected)
    assert [path.name for path in package.parent.iterdir()] == ["model.zip"]


def test_a_damaged_package_is_refused(run_dir, tmp_path):
    package = tmp_path / "model.zip"
    content = bytearray((run_dir / "small.zip").read_bytes())
    content[len(content) // 2] ^= 1
    package.write_bytes(content)
    with pytest.raises(UsageError, match="is damaged"):
        load_model(package)


def test_temperature_and_threshold_are_those_of_the_run(run_dir, new_cohort):
    predictions = load_model(run_dir).predict(new_cohort)
    names = predictions.class_names
    test = json.loads((run_dir / "metrics.json").read_text())["test"]
    temperature = test["calibration"]["temperature"]
    assert predictions.temperature == temperature != 1
    own = predictions.logits.double() / temperature
    table = predictions.table()
    assert table["calibrated_case"].to_numpy() == pytest.approx(own.softmax(1)[:, 1].numpy())
    point = test["thresholds"]["case"][0]
    positive = table["prob_case"] >= point["threshold"]
    assert table["decision"].tolist() == [names[int(each)] for each in positive]
    assert point["threshold"] != 0.5


def test_each_label_has_its_threshold(train, root, tmp_path):
    run_dir = train("multilabel")
    predictions = load_model(run_dir).predict(held_out(root, run_dir, tmp_path / "new"))
    points = json.loads((run_dir / "metrics.json").read_text())["test"]["thresholds"]
    table = predictions.table()
    for name in ("diseased", "heavy"):
        expected = table[f"prob_{name}"] >= points[name][0]["threshold"]
        assert (table[f"decision_{name}"] == expected).all()


def test_blocks_are_one_table_in_the_cohorts_order(run_dir, root, monkeypatch):
    model = load_model(run_dir)
    whole = model.predict(root)
    assert whole.sample_ids == read_samples(root)["sample_id"].tolist()
    assert whole.targets is not None
    monkeypatch.setattr(module, "BLOCK", 7)
    parts = list(model.stream(model.check(root)))
    assert [len(part) for part in parts] == [7] * 8 + [4]
    again = model.predict(root)
    assert again.sample_ids == whole.sample_ids
    assert again.targets is not None
    assert again.targets.tolist() == whole.targets.tolist()
    assert again.groups.tolist() == whole.groups.tolist()
    torch.testing.assert_close(again.logits, whole.logits)


def test_a_cohort_in_memory_is_predicted_like_its_folder(run_dir, new_cohort):
    model = load_model(run_dir)
    cohort = model.check(new_cohort).cohort
    assert torch.equal(model.predict(cohort).logits, model.predict(new_cohort).logits)


def test_the_model_reads_only_the_modality_that_it_uses(train, root, tmp_path):
    covariates = train(model={"name": "tabular_only"})
    new = held_out(root, covariates, tmp_path / "covariates")
    leave_out_spectra(new)
    check_equal(covariates, new)
    spectra = train(model={"name": "spectra_cnn"})
    new = held_out(root, spectra, tmp_path / "spectra")
    change_samples(new, lambda table: table[["sample_id", "label"]])
    check_equal(spectra, new)


def test_a_modality_may_be_absent_where_it_was_dropped_in_training(train, root, tmp_path):
    run_dir = train(model={"name": "tft", "params": SMALL_TFT | {"modality_dropout": 0.5}})
    model = load_model(run_dir)
    whole = model.predict(root)
    cohort = held_out(root, run_dir, tmp_path / "new")
    both = model.predict(cohort)
    change_samples(cohort, lambda table: table[["sample_id"]])
    spectra = model.predict(cohort)
    assert any("no covariates" in note for note in spectra.notes)
    leave_out_spectra(shutil.copytree(root, tmp_path / "covariates"))
    covariates = model.predict(tmp_path / "covariates")
    assert not torch.allclose(both.logits, spectra.logits, atol=1e-3)
    assert not torch.allclose(whole.logits, covariates.logits, atol=1e-3)
    # Samples of the same covariates are the same to it.
    double = read_samples(tmp_path / "covariates")
    double["age"], double["sex"] = "50", "F"
    for column in ("BMI", "CRP", "ALT", "AST", "GGT", "albumin"):
        double[column] = "20"
    change_samples(tmp_path / "covariates", lambda table: double)
    alike = model.predict(tmp_path / "covariates").logits
    torch.testing.assert_close(alike, alike[:1].expand_as(alike))
    # The next cohort has both again.
    assert torch.equal(model.predict(root).logits, whole.logits)
    change_samples(tmp_path / "covariates", lambda table: table[["sample_id", "label"]])
    with pytest.raises(CohortError, match="has no"):
        model.predict(tmp_path / "covariates")


def test_what_is_no_trained_model_is_refused(run_dir, tmp_path):
    with pytest.raises(UsageError, match=r"no run, package or cross-validation 'nothing'"):
        load_model("nothing")
    with pytest.raises(UsageError, match=r"holds no config\.yaml"):
        load_model(tmp_path)
    cut = tmp_path / "cut"
    shutil.copytree(run_dir, cut)
    log = (cut / "log.jsonl").read_text().splitlines(keepends=True)
    (cut / "log.jsonl").write_text("".join(log[:-1]))
    with pytest.raises(UsageError, match="was cut off"):
        load_model(cut)
    (cut / "log.jsonl").unlink()
    (cut / "checkpoints" / "model.safetensors").unlink()
    with pytest.raises(UsageError, match="has no weights"):
        load_model(cut)


def test_weights_of_another_network_are_refused(run_dir, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    path = other / "resolved.yaml"
    path.write_text(path.read_text().replace("fusion_dim: 32", "fusion_dim: 8"))
    with pytest.raises(UsageError, match=r"the weights do not fit config\.yaml"):
        load_model(other)


def test_targets_of_some_samples_are_empty_cells(run_dir, new_cohort):
    change_samples(new_cohort, lambda table: table.assign(label=["", *table["label"].iloc[1:]]))
    predictions = load_model(run_dir).predict(new_cohort)
    assert predictions.targets is not None
    assert predictions.targets[0] == -1
    assert predictions.labelled.tolist() == list(range(1, len(predictions)))
    assert predictions.table()["target"].isna().tolist() == [True] + [False] * (
        len(predictions) - 1
    )
    assert np.array_equal(predictions.labelled_outputs.target, predictions.targets[1:])


def test_a_sample_of_more_scans_than_the_runs_budget_is_predicted(train, root, tmp_path):
    buckets = {"kind": "bucket", "token_budget": 192}  # three scans
    run_dir = train(data={"batching": buckets})
    new = shutil.copytree(root, tmp_path / "new")
    scans = pd.read_csv(new / "scans.csv", dtype=str)
    scans["sample_id"], scans["scan"] = scans["sample_id"].iloc[0], range(len(scans))
    scans.to_csv(new / "scans.csv", index=False)
    change_samples(new, lambda table: table.head(1))
    predictions = load_model(run_dir).predict(new)
    assert len(predictions) == 1
    assert bool(torch.isfinite(predictions.logits).all())


def test_several_seeds_are_one_model_by_the_name_of_their_folder(run_dir, new_cohort, tmp_path):
    folder = tmp_path / "recommended"
    for seed in (0, 1):
        shutil.copytree(run_dir, folder / f"seed{seed}")
    several = load_model(tmp_path)
    assert several.where == folder
    assert len(several.predictors) == 2
    one = load_model(folder / "seed1")
    assert one.where == folder / "seed1"
    found, expected = (model.predict(new_cohort).probabilities for model in (several, one))
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda plain: plain.pop("task"), "'task'"),
        (lambda plain: plain["transforms"].pop("axis"), "'axis'"),
        (lambda plain: plain["covariates"].pop("numeric"), "'numeric'"),
    ],
)
def test_a_preprocessing_that_lacks_something_is_refused(run_dir, tmp_path, change, told):
    other = tmp_path / "other"
    shutil.copytree(run_dir, other)
    plain = torch.load(other / "preprocessing.pt", weights_only=True)
    change(plain)
    torch.save(plain, other / "preprocessing.pt")
    with pytest.raises(UsageError, match=rf"preprocessing\.pt is not as a run writes it: {told}"):
        load_model(other)
