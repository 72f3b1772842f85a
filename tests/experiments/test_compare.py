from __future__ import annotations

import re
import shutil
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments import compare
from experiments.comparison import compare_runs
from experiments.config import check_config
from experiments.runs import Experiment
from tests.experiments.made_runs import drawn, make_run

pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def few_resamples(monkeypatch):
    monkeypatch.setattr("experiments.comparison.compare_runs", partial(compare_runs, resamples=100))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Three runs of one cohort."""
    folder = tmp_path_factory.mktemp("made")
    for number, name in enumerate(["one", "other", "third"]):
        make_run(folder / name, drawn("binary", number))
    return folder


@pytest.fixture
def runs(made, tmp_path):
    """Copies of them, in a folder of the test's own."""
    return shutil.copytree(made, tmp_path / "runs")


def told(capsys):
    out, err = capsys.readouterr()
    return out, err.splitlines()


# -- finished runs ----------------------------------------------------------------------------


def test_runs_are_compared_with_the_first(runs, capsys):
    assert compare.main(["other", "one", "--runs_dir", str(runs)]) == 0
    out, err = told(capsys)
    assert err == []
    assert "Differences are relative to other, named first" in out
    folder = runs / "comparison"
    assert f"open  {folder / 'model_comparison.html'}\n" in out
    assert f"open  {folder / 'roc_comparison.html'}\n" in out
    assert list(pd.read_csv(folder / "model_comparison.csv")["run"]) == ["other", "one"]


def test_runs_can_be_named_by_their_folders_and_put_elsewhere(runs, tmp_path, capsys):
    words = [str(runs / "one"), f"{runs}/third/", "--out", str(tmp_path / "a" / "b")]
    assert compare.main(words) == 0
    assert (tmp_path / "a" / "b" / "model_comparison.html").is_file()
    assert not (runs / "comparison").exists()


def test_a_comparison_is_never_overwritten(runs, capsys):
    words = ["one", "other", "--runs_dir", str(runs)]
    assert compare.main(words) == 0
    before = {path: path.read_bytes() for path in (runs / "comparison").iterdir()}
    assert compare.main([*words[:1], "third", *words[2:]]) == 0
    assert {path: path.read_bytes() for path in (runs / "comparison").iterdir()} == before
    assert (runs / "comparison-2" / "model_comparison.csv").is_file()
    assert "comparison exists and is left as it is: writing to" in told(capsys)[0]


def test_a_comparison_is_no_run(runs, capsys):
    compare.main(["one", "other", "--runs_dir", str(runs)])
    assert compare.main(["one", "comparison", "--runs_dir", str(runs)]) == 2
    assert "no run 'comparison'" in told(capsys)[1][0]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["one"], "one is one run: name two or more, before any option"),
        (["on"], "'on' is neither a configuration nor a run in .*did you mean 'one'"),
        (["tft_baselin"], "neither a configuration nor a run in .*did you mean 'tft_baseline'"),
        (["one", "othr"], "no run 'othr' in .*did you mean 'other'"),
        (["one", "one"], "is given twice"),
        (["one", "hcc"], "'hcc' is a configuration, which stands alone, and no run in"),
        (["one", "other", "--seeds", "1"], "'--seeds' goes with a configuration"),
        (["one", "other", "--vary-cohort"], "'--vary-cohort' goes with a configuration"),
        (["one", "other", "--seed", "1"], "'--seed' goes with a configuration"),
        (["one", "--out", "x", "other"], "name two or more, before any option"),
        (
            ["one", "other", "--out", "{runs}/one/config.yaml/x"],
            "--out: cannot make .*/x: Not a dir",
        ),
        (["nowhere.yaml"], "configuration file nowhere.yaml does not exist"),
    ],
)
def test_what_cannot_be_compared_is_one_line_and_code_2(runs, capsys, words, expected):
    words = [word.format(runs=runs) for word in words]
    assert compare.main([*words, "--runs_dir", str(runs)]) == 2
    out, err = told(capsys)
    assert out == ""
    assert len(err) == 1
    assert re.match(f"error: .*{expected}", err[0])
    assert sorted(path.name for path in runs.iterdir()) == ["one", "other", "third"]


def test_the_help_tells_of_both_with_an_example(capsys):
    with pytest.raises(SystemExit) as left:
        compare.main(["--help"])
    assert left.value.code == 0
    out, _ = told(capsys)
    assert "scanfire compare tft_baseline spectra_only tabular_only" in out
    assert "scanfire compare tft_baseline --seeds 0 1 2 --vary-cohort" in out
    assert "RUN RUN" in out
    assert "NAME|FILE" in out


def test_a_configurations_name_wins_over_a_runs(runs, monkeypatch):
    called = []

    def note(*arguments, **options):
        called.append((arguments, options))
        return 0

    monkeypatch.setattr("experiments.comparison.compare_families", note)
    make_run(runs / "hcc", drawn("binary"))
    words = ["hcc", "--seeds", "4", "5", "--data.root", "d", "--runs_dir", str(runs)]
    assert compare.main([*words, "--models", "tft", "--trainer.max_epochs=3"]) == 0
    ((source, overrides), options) = called[0]
    assert source == "hcc"
    assert dict(overrides) == {
        "data.root": "d",
        "trainer.max_epochs": "3",
        "runs_dir": str(runs),
    }
    assert (options["seeds"], options["models"]) == ([4, 5], ["tft"])


# -- what is really left behind by a training -------------------------------------------------


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cohort_dir):
    """Two short runs on the same split, and one on another."""
    folder = tmp_path_factory.mktemp("trained")
    changes: dict[str, dict[str, Any]] = {
        "network": {},
        "linear": {"model": {"name": "mean_linear"}},
        "elsewhere": {"seed": 5},
    }
    for name, changed in changes.items():
        values: dict[str, Any] = {
            "exp_name": name,
            "runs_dir": str(folder),
            "data": {
                "root": str(cohort_dir),
                "labels": {"control": 0, "case": 1},
                "split": {"fractions": [0.4, 0.2, 0.4]},
            },
            "model": {"name": "tabular_only"},
            "trainer": {"max_epochs": 2, "device": "cpu"},
            "report": {"enabled": False, "resamples": 50},
            "baselines": {"enabled": False},
        }
        Experiment(check_config(values | changed)).run()
    return folder


def test_trained_runs_are_compared_by_what_they_left(trained, tmp_path, capsys):
    words = ["network", "linear", "--runs_dir", str(trained), "--out", str(tmp_path / "made")]
    assert compare.main(words) == 0
    out, _ = told(capsys)
    table = pd.read_csv(tmp_path / "made" / "model_comparison.csv").set_index("run")
    for name in ("network", "linear"):
        metrics = yaml.safe_load((trained / name / "metrics.json").read_text())["test"]
        predictions = pd.read_csv(trained / name / "predictions.csv")
        assert table["auroc"][name] == pytest.approx(metrics["metrics"]["auroc"])
        bounds = [table["accuracy_low"][name], table["accuracy_high"][name]]
        assert bounds == pytest.approx(metrics["intervals"]["accuracy"])
        assert metrics["interval_methods"]["auroc"] == "too_few"  # which has no bounds
        assert np.isnan(table["auroc_low"][name])
        assert table["samples"][name] == len(predictions)
        assert table["seconds"][name] > 0
        assert table["parameters"][name] > 0
    assert re.search(r"^model\.name +tabular_only +mean_linear$", out, re.MULTILINE)
    assert "warning" not in out


def test_other_splits_are_compared_on_shared_test_samples(trained, tmp_path, capsys):
    sides = {
        name: set(pd.read_csv(trained / name / "predictions.csv")["sample_id"])
        for name in ("network", "elsewhere")
    }
    shared = sides["network"] & sides["elsewhere"]
    assert 2 <= len(shared) < len(sides["network"])
    words = ["network", "elsewhere", "--runs_dir", str(trained), "--out", str(tmp_path / "made")]
    assert compare.main(words) == 0
    out, _ = told(capsys)
    assert f"2 runs on their {len(shared)} shared test samples" in out
    assert "The test sets differ" in out
    assert re.search(r"^data\.split\.seed +0 +5$", out, re.MULTILINE)
