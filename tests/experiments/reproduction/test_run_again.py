from __future__ import annotations

import json
import shutil
import zipfile

import pandas as pd
import pytest
import torch

from datasets.errors import UsageError
from experiments.config import check_config
from experiments.reproduction import reproduce
from experiments.reproduction.differences import Difference
from experiments.reproduction.run_again import judge, other_here
from experiments.run_files import write_package
from experiments.runs import Experiment
from tests.experiments.conftest import small_settings

ENVIRONMENT = {"packages": {"torch": "2.13", "numpy": "2.4"}, "commit": "1a", "dirty": False}


@pytest.fixture
def cohort(packaged_run):
    return packaged_run / "cohort"


@pytest.fixture
def package(packaged_run):
    return packaged_run / "runs" / "small" / "small.zip"


@pytest.fixture
def changed_package(packaged_run, tmp_path):
    """A whole package in which ``change(folder)`` has changed something."""

    def make(change):
        folder = tmp_path / "changed"
        shutil.copytree(packaged_run / "runs" / "small", folder)
        (folder / "small.zip").unlink()
        change(folder)
        return write_package(folder, "small")

    return make


def of_this_code(folder):
    """As if the package were of a clean checkout of the code that runs here."""
    path = folder / "environment.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "dirty": False, "commit": None}))


@pytest.fixture
def clean_code(monkeypatch):
    """This code is committed, as that of :func:`of_this_code`."""
    import sys

    from experiments.launch import describe_environment

    module = sys.modules[describe_environment.__module__]
    monkeypatch.setattr(module, "_git", lambda *words: None)


@pytest.mark.slow
def test_a_run_is_made_again_to_the_digit(
    changed_package, packaged_run, cohort, tmp_path, capsys, clean_code
):
    package = changed_package(of_this_code)
    assert reproduce(package, cohort, tmp_path / "runs") == 0
    out = capsys.readouterr().out
    assert out.splitlines()[-2] == "reproduced: identical"
    assert "differs" not in out
    again = tmp_path / "runs" / "small-reproduced"
    for name in ("predictions.csv", "predictions_val.csv", "metrics.json"):
        assert (again / name).read_bytes() == (packaged_run / "runs/small" / name).read_bytes()
    assert (again / "small-reproduced.zip").is_file()
    unpacked = tmp_path / "runs" / "small-package"
    assert f"next  scanfire compare {unpacked} {again}" in out
    assert (unpacked / "checkpoints" / "model.safetensors").is_file()


def other_prediction(folder):
    of_this_code(folder)
    table = pd.read_csv(folder / "predictions.csv")
    table["prob_case"] += 0.25 * (table.index == 0)
    table.to_csv(folder / "predictions.csv", index=False)


def other_version(folder):
    path = folder / "environment.json"
    told = json.loads(path.read_text())
    path.write_text(json.dumps({**told, "packages": {**told["packages"], "numpy": "1.0"}}))


@pytest.mark.slow
def test_what_differs_is_named_and_the_exit_code_is_1(
    changed_package, cohort, tmp_path, capsys, clean_code
):
    assert reproduce(changed_package(other_prediction), cohort, tmp_path / "runs") == 1
    out = capsys.readouterr().out
    sample = pd.read_csv(tmp_path / "changed" / "predictions.csv")["sample_id"][0]
    assert f"predictions.csv: differs by up to 0.25 (prob_case of {sample})" in out
    assert "metrics.json: identical" in out
    assert "not reproduced: predictions.csv differs by up to 0.25; with these versions" in out


@pytest.mark.slow
def test_another_version_is_told_and_a_small_difference_tolerated(
    changed_package, cohort, tmp_path, capsys
):
    def nearly(folder):
        other_version(folder)
        table = pd.read_csv(folder / "predictions.csv")
        table["prob_case"] += 0.004
        table.to_csv(folder / "predictions.csv", index=False)

    assert reproduce(changed_package(nearly), cohort, tmp_path / "runs") == 0
    out = capsys.readouterr().out
    assert "differs  numpy 1.0, here " in out
    assert "reproduced within the tolerance: predictions differ by up to 0.004, 0.01 is" in out


@pytest.mark.slow
def test_a_simulated_cohort_and_a_split_of_a_file_are_found_again(
    packaged_run, cohort, tmp_path, capsys
):
    settings = small_settings(cohort, tmp_path / "first")
    settings["report"]["enabled"] = False
    settings["data"] = {
        "simulated": {"n_samples": 40, "seed": 5},
        "cache_dir": str(tmp_path / "cache"),
    }
    settings["model"] = {"name": "mean_linear"}
    Experiment(check_config(settings)).run()
    splits = tmp_path / "first" / "small" / "splits.csv"
    settings["data"]["split"] = {"file": str(splits)}
    settings["exp_name"] = "of_file"
    Experiment(check_config(settings)).run()
    splits.unlink()
    package = tmp_path / "first" / "of_file" / "of_file.zip"
    assert reproduce(package, None, tmp_path / "runs") == 0
    assert "reproduced: identical" in capsys.readouterr().out
    with pytest.raises(UsageError, match=r"--data\.root: the run's cohort is simulated"):
        reproduce(package, cohort, tmp_path / "runs")


def damage(package, tmp_path):
    bad = tmp_path / "bad.zip"
    content = bytearray(package.read_bytes())
    with zipfile.ZipFile(package) as archive:
        place = archive.getinfo("checkpoints/model.safetensors").header_offset
    content[place + 2000] ^= 1
    bad.write_bytes(content)
    return bad


def shorten(package, tmp_path):
    bad = tmp_path / "bad.zip"
    bad.write_bytes(package.read_bytes()[:5000])
    return bad


def something_else(package, tmp_path):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(bad, "w") as archive:
        archive.writestr("letter.txt", "Dear all")
    return bad


def more_than_a_run(package, tmp_path):
    bad = tmp_path / "bad.zip"
    with zipfile.ZipFile(package) as old, zipfile.ZipFile(bad, "w") as new:
        manifest = json.loads(old.read("MANIFEST.json"))
        for name in old.namelist()[:-1]:
            new.writestr(name, old.read(name))
        new.writestr("../outside.txt", b"")
        empty = {"sha256": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}
        manifest["files"]["../outside.txt"] = {**empty, "size": 0}
        new.writestr("MANIFEST.json", json.dumps(manifest))
    return bad


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damage, r"model\.safetensors is damaged"),
        (shorten, "is no whole package"),
        (something_else, r"lacks MANIFEST\.json: it is no package of a run"),
        (more_than_a_run, r"holds \.\./outside\.txt, which no run writes"),
        (lambda package, tmp_path: tmp_path / "absent.zip", "no package at"),
        (lambda package, tmp_path: package.with_name("config.yaml"), "is no whole package"),
    ],
    ids=["damaged", "short", "another zip", "a path outside", "absent", "no zip"],
)
def test_what_is_no_whole_package_is_one_line(make, message, package, cohort, tmp_path):
    bad = make(package, tmp_path)
    with pytest.raises(UsageError, match=message) as told:
        reproduce(bad, cohort, tmp_path / "runs")
    assert "\n" not in str(told.value)
    assert not list((tmp_path / "runs").glob("*"))
    assert not (tmp_path / "outside.txt").exists()


def test_a_package_that_is_near_is_named(package, tmp_path):
    shutil.copy(package, tmp_path / "mine.zip")
    with pytest.raises(
        UsageError, match=r"no package at \S*mien\.zip; did you mean '\S*/mine\.zip'"
    ):
        reproduce(tmp_path / "mien.zip")
    run = tmp_path / "mine"
    run.mkdir()
    shutil.copy(package, run / "mine.zip")
    with pytest.raises(UsageError, match=r"did you mean '\S*/mine/mine\.zip'\?$"):
        reproduce(run)


def test_the_cohorts_folder_has_to_be_given(package, tmp_path):
    with pytest.raises(UsageError, match=r"its cohort's folder, 'cohort': give .* --data\.root"):
        reproduce(package, None, tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_missing_data_and_another_cohort_are_refused_before_training(package, cohort, tmp_path):
    with pytest.raises(UsageError, match=r"no file .*samples\.csv"):
        reproduce(package, tmp_path, tmp_path / "runs")
    other = tmp_path / "cohort"
    shutil.copytree(cohort, other)
    samples = pd.read_csv(other / "samples.csv")
    samples["age"] += samples.index == 0
    samples.to_csv(other / "samples.csv", index=False)
    with pytest.raises(UsageError, match=r"is not the run's cohort: samples\.csv"):
        reproduce(package, other, tmp_path / "runs")
    assert not list((tmp_path / "runs").glob("*"))


def test_versions_and_hardware_that_differ_are_lines():
    now = {**ENVIRONMENT, "packages": {"torch": "2.14", "numpy": "2.4"}, "commit": "2b"}
    assert list(other_here(ENVIRONMENT, now)) == ["torch 2.13, here 2.14", "commit 1a, here 2b"]
    assert list(other_here(ENVIRONMENT, ENVIRONMENT)) == []
    assert list(other_here({**ENVIRONMENT, "dirty": True}, ENVIRONMENT)) == [
        "the run's code had uncommitted changes"
    ]
    of_gpu = {**ENVIRONMENT, "cuda": "12.8"}
    assert "a GPU, on which sums are in no fixed order" in list(other_here(of_gpu, of_gpu))
    several = {**ENVIRONMENT, "processes": {"world_size": 2}}
    (line,) = other_here(several, ENVIRONMENT)
    assert line.startswith("processes ")


def test_predictions_decide_where_versions_differ():
    same = Difference("predictions.csv", 10)
    near = Difference("predictions.csv", 10, 0.002, "prob_case of S1", changed=1)
    lost = Difference("predictions.csv", 10, 0.002, "x", other="x is in one of them only")
    far = Difference("predictions.csv", 10, 0.2, "prob_case of S1")
    metrics = Difference("metrics.json", 30, 0.5, "test.metrics.recall")
    assert judge([same], others=False) == judge([same], others=True) == (0, "reproduced: identical")
    assert judge([metrics, near], others=True)[0] == 0
    assert judge([metrics, near], others=False)[0] == 1
    assert judge([metrics, lost], others=True)[0] == 1
    assert judge([metrics, far], others=True)[0] == 1


@pytest.mark.slow
def test_it_computes_with_as_many_threads_as_the_run(
    changed_package, cohort, tmp_path, monkeypatch
):
    def of_three_threads(folder):
        path = folder / "environment.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "threads": 3}))

    former = torch.get_num_threads()
    reproduce(changed_package(of_three_threads), cohort, tmp_path / "runs")
    told = json.loads((tmp_path / "runs/small-reproduced/environment.json").read_text())
    assert told["threads"] == 3
    assert torch.get_num_threads() == former
