from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from datasets.simulation import simulate_cohort
from engine.reporting import read_log
from experiments.config import check_config
from experiments.runs import Experiment
from tests.experiments.card_code import check_by_the_card
from tests.experiments.conftest import SMALL_TFT

pytestmark = pytest.mark.slow

ODD = "ca|se_*1*"
DATA: dict[str, dict[str, Any]] = {
    "binary": {"labels": {"control": 0, ODD: 1}},
    "multiclass": {"task": "multiclass", "label": "stage"},
    "multilabel": {"task": "multilabel", "label": ["male", "heavy"], "numeric": ["age"]},
    "regression": {"task": "regression", "label": "BMI", "numeric": ["age", "CRP"]},
}
# A user's module, for a transform with a dotted path.
OWN = """
class Scale:
    def __init__(self, by):
        self.by = by

    def __call__(self, scans):
        return scans * self.by
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A cohort with columns for every task, an odd class name, and many absent values."""
    folder = simulate_cohort(
        tmp_path_factory.mktemp("cohorts") / "odd_names", 3, n_samples=90, spec_len=64, max_scans=2
    ).root
    table = pd.read_csv(folder / "samples.csv", dtype={"sample_id": str})
    table["label"] = table["label"].replace("case", ODD)
    table["stage"] = pd.qcut(table["BMI"].fillna(25), 3, labels=["low", "middle", "high"])
    table["male"] = (table["sex"] == "M").astype(int)
    table["heavy"] = (table["BMI"].fillna(25) > 25).astype(int)
    table["CRP"] = table["CRP"].where(np.arange(len(table)) % 5 > 0)
    table["age"] = table["age"].fillna(50.0)
    table.to_csv(folder / "samples.csv", index=False)
    return folder


@pytest.fixture(scope="module")
def run(root, tmp_path_factory):
    """Run with some of the settings changed: ``run("regression", seed=7)``."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "own_transforms.py").write_text(OWN)

    def make(task: str = "binary", **changes: Any) -> Experiment:
        data = {
            "root": str(root),
            "numeric": ["age", "CRP"],
            "categorical": ["sex"] if task != "multilabel" else [],
            "transforms": [
                "tic",
                {"name": "own_transforms.Scale", "params": {"by": 0.5}},
                "standardize",
            ],
        }
        config = {
            "exp_name": "card",
            "runs_dir": str(tmp_path_factory.mktemp("runs")),
            "data": data | DATA[task] | changes.pop("data", {}),
            "model": {"name": "tft", "params": SMALL_TFT},
            "trainer": {"max_epochs": 1, "batch_size": 16, "device": "cpu"},
            "report": {"enabled": False, "resamples": 50},
            "audit": {"enabled": False},
            "baselines": {"enabled": False},
        }
        experiment = Experiment(check_config(config | changes))
        experiment.run()
        return experiment

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield make


@pytest.fixture(scope="module")
def plain(run) -> Experiment:
    """A run of two classes that several tests read."""
    return run(seed=7)  # type: ignore[no-any-return]


def rows_of(card: str, head: str) -> dict[str, list[str]]:
    """The rows of the table with that head: first cell -> the others."""
    _, _, after = card.partition(f"| {head} |\n")
    lines = after.partition("\n\n")[0].splitlines()[1:]
    rows = [[cell.strip() for cell in line.split(" | ")] for line in lines]
    return {row[0].strip("| ").replace("\\", ""): [c.strip("| ") for c in row[1:]] for row in rows}


def card_of(experiment: Experiment) -> str:
    return (experiment.run_dir / "model_card.md").read_text("utf-8")


@pytest.mark.parametrize("task", DATA)
def test_its_code_gives_the_exported_predictions(run, root, task, tmp_path):
    experiment = run(task)
    elsewhere = tmp_path / "elsewhere"
    with zipfile.ZipFile(experiment.run_dir / "card.zip") as archive:
        archive.extractall(elsewhere)
    shutil.rmtree(experiment.run_dir)
    check_by_the_card(elsewhere, root)


def test_its_code_loads_a_model_of_fewer_points(run, root):
    steps = [
        {"name": "savgol", "params": {"window": 3, "order": 1}},
        {"name": "snip", "params": {"half_window": 5}},
        {"name": "align", "params": {"min_frequency": 0.2, "half_window": 2, "snr": 2}},
        "tic",
        {"name": "crop", "params": {"low": 3000, "high": 12000}},
        {"name": "resample", "params": {"points": 30}},
        "standardize",
    ]
    experiment = run(data={"transforms": steps})
    assert experiment.data.spec_len == 30
    transforms = check_by_the_card(experiment.run_dir, root).fitted.transforms
    assert transforms.spec_len == 30
    np.testing.assert_array_equal(transforms.axis, experiment.data.axis)
    assert "the transforms leave 30 of 64 points (" in card_of(experiment).replace("\\", "")


def test_it_names_version_date_data_and_settings(plain):
    card, run_dir, experiment = card_of(plain), plain.run_dir, plain
    environment = yaml.safe_load((run_dir / "environment.json").read_text())
    assert f"scanfire {environment['packages']['scanfire'] or '(not installed)'}" in card
    assert f"- Date: {read_log(run_dir / 'log.jsonl')[0]['time'][:10]} " in card
    (settings,) = re.findall(r"```yaml\n(.*?)```", card, re.DOTALL)
    written = yaml.safe_load(settings)
    assert written["seed"] == 7
    assert written["model"] == experiment.config.plain()["model"]
    assert written["data"]["transforms"][1]["params"] == {"by": 0.5}
    for side in ("train", "val", "test"):
        assert re.search(rf"- {side} +\d+ samples in \d+ groups ", card.replace("\\", "")), side
    assert "Covariates that the model is given: age, CRP, sex" in card
    assert "not a medical device" in " ".join(card.split())
    assert "one cohort, odd\\_names" in card
    assert str(experiment.data.cohort.root.parent) not in card


def test_its_metrics_are_those_of_the_run_on_both_sides(plain):
    rows = rows_of(card_of(plain), "metric | validation | test | 95% interval of test")
    assert rows.keys() == {"loss", *plain.config.metrics}
    for name, cells in rows.items():
        expected = [plain.results[side][name] for side in ("val", "test")]
        values = [float(value) for value in cells[:2]]
        assert values == pytest.approx(expected, abs=1e-4, nan_ok=True)


def test_test_intervals_have_their_own_column(run):
    metrics = ["accuracy", "auroc", "brier"]  # by Clopper and Pearson, of too few, by bootstrap
    experiment = run(metrics=metrics, report={"enabled": False})
    card = card_of(experiment)
    rows = rows_of(card, "metric | validation | test | 95% interval of test")
    assert rows["loss"][2] == ""
    for name, interval in experiment.intervals.items():
        told = f"{interval.low:.3f} to {interval.high:.3f}"
        assert rows[name][2] == (told if not np.isnan(interval.low) else "too few samples")
    groups = len(set(experiment.data.cohort.groups[experiment.data.split == "test"]))
    assert f"1000 bootstrap resamples of the {groups} groups of the test set" in card
    model = {"name": "tabular_only"}
    without = card_of(run(metrics=metrics, model=model, report={"enabled": False, "resamples": 0}))
    assert rows_of(without, "metric | validation | test").keys() == rows.keys()
    assert "95%" not in without


def test_a_test_set_of_one_group_is_warned_of(run, root, tmp_path):
    sites = tmp_path / "sites"
    shutil.copytree(root, sites)
    table = pd.read_csv(sites / "samples.csv", dtype={"sample_id": str})
    table["site"] = [f"site_{number % 3}" for number in range(len(table))]
    table.to_csv(sites / "samples.csv", index=False)
    experiment = run(
        data={"root": str(sites), "group": "site"},
        model={"name": "tabular_only"},
        metrics=["auroc", "accuracy"],
    )
    card = card_of(experiment)
    assert "**Warning:** no interval for auroc, accuracy: the test set is one group" in card
    assert rows_of(card, "metric | validation | test | 95% interval of test")["auroc"][2] == (
        "undefined"
    )


def test_it_states_the_threshold_and_the_temperature(run):
    threshold = {"rule": "fpr", "demand": 0.2}
    experiment = run(report={"enabled": False, "resamples": 0, "threshold": threshold})
    card, found = card_of(experiment), experiment.findings
    (point, *_) = found.decisions[ODD]
    assert "by the rule `fpr <= 0.2`" in card
    (row,) = re.findall(r"^\| ca\\\|se\\_\\\*1\\\* \| (.*) \|$", card, re.MULTILINE)
    assert row.split(" | ")[:3] == [
        f"{point.threshold:.4g}",
        f"{point.val['sensitivity']:.4f}",
        f"{point.val['specificity']:.4f}",
    ]
    assert f"Temperature {found.calibration.temperature:.3g}, fitted on the validation" in card
    assert "not divided by the temperature" in card
    assert "Decision threshold" not in card_of(run("regression", model={"name": "tabular_only"}))


def test_names_from_the_cohort_cannot_become_markup(plain):
    card = card_of(plain)
    assert ODD not in card
    assert "ca\\|se\\_\\*1\\*" in card


def test_few_samples_of_a_class_and_missing_values_are_warned_of(run, plain):
    card, data = card_of(plain).replace("\\", ""), plain.data
    for side in ("val", "test"):
        counts = np.bincount(data.cohort.targets[data.split == side])
        few = f"control {counts[0]}, {ODD} {counts[1]}"
        name = {"val": "validation", "test": "test"}[side]
        assert f"**Warning:** fewer than 50 samples in the {name} set: {few}." in card
    share = data.cohort.samples["CRP"].isna().mean()
    assert share > 0.2
    assert f"CRP is missing in {share:.0%} of the samples, filled with the training median" in card
    assert "the model has an indicator of missing values" in card
    assert "age is missing" not in card
    untold = card_of(run(data={"missing_indicators": False}, model={"name": "tabular_only"}))
    assert "the model has no indicator of missing values" in untold


def test_enough_complete_samples_give_no_warning(run, tmp_path):
    large = simulate_cohort(tmp_path / "large", 3, n_samples=400, spec_len=64, max_scans=1).root
    labels = {"control": 0, "case": 1}
    data = {"root": str(large), "labels": labels, "numeric": [], "categorical": ["sex"]}
    data["split"] = {"fractions": [0.3, 0.35, 0.35]}
    learned = {"model": {"name": "mean_linear"}, "optimizer": {"lr": 1e-2}}
    learned["trainer"] = {"max_epochs": 3, "batch_size": 16, "device": "cpu"}
    experiment = run(data=data, **learned)
    counts = np.bincount(experiment.data.cohort.targets[experiment.data.split == "test"])
    assert counts.min() >= 50
    assert "**Warning:**" not in card_of(experiment)


def test_few_groups_are_named_and_many_are_counted(run, root, tmp_path):
    many = card_of(run(model={"name": "tabular_only"}))
    assert re.search(r"Groups: column group; \d+ train, \d+ val, \d+ test", many)
    assert "Groups of train" not in many
    sites = tmp_path / "sites"
    shutil.copytree(root, sites)
    table = pd.read_csv(sites / "samples.csv", dtype={"sample_id": str})
    table["site"] = [f"site_{number % 9}" for number in range(len(table))]
    table.to_csv(sites / "samples.csv", index=False)
    experiment = run(data={"root": str(sites), "group": "site"}, model={"name": "tabular_only"})
    card, data = card_of(experiment), experiment.data
    assert "Groups: column site; " in card
    for side in ("train", "val", "test"):
        names = ", ".join(sorted(set(data.cohort.groups[data.split == side])))
        assert f"Groups of {side}: {names}\n" in card.replace("\\", "")


@pytest.mark.parametrize(
    ("key", "shown"), [("licence", "CC BY\\_4.0"), ("license", "CC BY\\_4.0"), (None, "not named")]
)
def test_the_licence_is_the_one_that_the_cohort_names(run, root, tmp_path, key, shown):
    licensed = tmp_path / "licensed"
    shutil.copytree(root, licensed)
    described = yaml.safe_load((licensed / "cohort.yaml").read_text())
    assert described.pop("licence")
    if key:
        described[key] = "CC BY_4.0"
    (licensed / "cohort.yaml").write_text(yaml.safe_dump(described))
    experiment = run(data={"root": str(licensed)}, model={"name": "tabular_only"})
    assert f"- Licence of the data: {shown}" in card_of(experiment)


def test_unscored_weights_are_those_of_the_last_epoch(run):
    experiment = run(model={"name": "tabular_only"}, checkpoint={"monitor": "val/auroc"})
    assert "weights are those of the best val/auroc" in card_of(experiment)
    (experiment.run_dir / "checkpoints" / "best.pt").unlink()
    experiment.validate()
    experiment.test()
    experiment.export()
    assert "weights are those of the last epoch" in card_of(experiment)
