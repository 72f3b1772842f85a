from __future__ import annotations

import os
import re
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest

from experiments import predict
from experiments.prediction import Predictions
from tests.experiments.prediction.conftest import new_cohort, root, run_dir, train
from tests.experiments.prediction.made_cohorts import WRONG, change_samples

__all__ = ["new_cohort", "root", "run_dir", "train"]  # fixtures

pytestmark = pytest.mark.slow
GUIDES = ("prediction.md", "external_validation.md")


def run(*words):
    return predict.main(list(map(str, words)))


def test_the_test_sets_file_has_the_runs_columns_and_further_ones(
    run_dir, new_cohort, tmp_path, capsys
):
    out = tmp_path / "predictions.csv"
    assert run(run_dir, new_cohort, "--out", out) == 0
    told = capsys.readouterr()
    own = pd.read_csv(run_dir / "predictions.csv", dtype=str)
    table = pd.read_csv(out, dtype=str)
    assert table[own.columns].equals(own)
    assert list(table.columns[len(own.columns) :]) == [
        "calibrated_control",
        "calibrated_case",
        "decision",
        "far_outside",
    ]
    assert f"{len(own)} samples predicted by {run_dir}: {out}" in told.out
    assert not told.err


def test_a_package_in_an_empty_folder_gives_the_same_file(
    run_dir, new_cohort, tmp_path, monkeypatch
):
    assert run(run_dir, new_cohort, "--out", tmp_path / "here.csv") == 0
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    shutil.copy(run_dir / "small.zip", "model.zip")
    assert run("model.zip", new_cohort, "--out", "there.csv") == 0
    assert sorted(os.listdir()) == ["model.zip", "there.csv"]
    here, there = (path.read_bytes() for path in (tmp_path / "here.csv", elsewhere / "there.csv"))
    assert here == there


@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_cohort_is_one_line_and_nothing_is_written(
    run_dir, new_cohort, tmp_path, capsys, wrong
):
    change, told = WRONG[wrong]
    change(new_cohort)
    out = tmp_path / "out"
    out.mkdir()
    assert run(run_dir, new_cohort, "--out", out / "predictions.csv") == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert line.startswith("error: ")
    assert told in line
    assert not said.out
    assert not list(out.iterdir())


def test_nothing_is_left_of_predictions_that_end_in_an_error(
    run_dir, new_cohort, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr("experiments.prediction.loaded_model.BLOCK", 3)
    written = []
    whole = Predictions.table

    def table(predictions):
        written.append(len(predictions))
        if len(written) == 2:
            raise KeyboardInterrupt
        return whole(predictions)

    monkeypatch.setattr(Predictions, "table", table)
    out = tmp_path / "out"
    out.mkdir()
    assert run(run_dir, new_cohort, "--out", out / "predictions.csv") == 130
    assert written == [3, 3]
    assert not list(out.iterdir())


def test_a_file_is_not_overwritten(run_dir, new_cohort, tmp_path, capsys):
    out = tmp_path / "predictions.csv"
    out.write_text("mine")
    assert run(run_dir, new_cohort, "--out", out) == 2
    assert "exists and is not overwritten" in capsys.readouterr().err
    assert out.read_text() == "mine"
    assert run(run_dir, new_cohort, "--out", tmp_path / "nowhere" / "p.csv") == 2
    assert "there is no folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--prevalence", "0"], "prevalence: a number above 0 and below 1"),
        (["--prevalence", "2"], "prevalence: a number above 0 and below 1"),
        (["--coverage", "1.5"], "coverage: a number above 0 and below 1"),
        (["--coverage", "0.999"], "needs 999 groups"),
        (["--explain", "3"], "--explain draws on a page"),
        (["--report", "p.csv"], "--report: p.csv is the file of --out"),
        (["--report", "nowhere/p.html"], "--report: there is no folder nowhere"),
    ],
)
def test_a_wrong_option_is_one_line_and_nothing_is_written(
    run_dir, new_cohort, tmp_path, monkeypatch, capsys, options, told
):
    out = tmp_path / "out"
    out.mkdir()
    monkeypatch.chdir(out)
    change_samples(new_cohort, lambda table: table.assign(age=["", *table["age"].iloc[1:]]))
    assert run(run_dir, new_cohort, "--out", "p.csv", *options) == 2
    said = capsys.readouterr()
    (line,) = said.err.splitlines()
    assert told in line
    assert not said.out
    assert not list(out.iterdir())


def test_a_folder_that_cannot_be_written_to_is_refused(
    run_dir, new_cohort, tmp_path, monkeypatch, capsys
):
    locked = tmp_path / "locked"
    locked.mkdir()
    whole = os.access
    # Permissions do not stop an administrator.
    monkeypatch.setattr(os, "access", lambda path, mode: path != locked and whole(path, mode))
    out, page = locked / "p.csv", locked / "p.html"
    assert run(run_dir, new_cohort, "--out", out) == 2
    assert "--out: the folder" in capsys.readouterr().err
    assert run(run_dir, new_cohort, "--out", tmp_path / "p.csv", "--report", page) == 2
    assert "--report: the folder" in capsys.readouterr().err
    assert not (tmp_path / "p.csv").exists()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("metrics.json", b'{"test": '),
        ("metrics.json", b"[]"),
        ("resolved.yaml", b"\xff\xfe"),
        ("preprocessing.pt", b"junk" * 100),
        ("preprocessing.pt", b""),
        ("splits.csv", b""),
        ("splits.csv", b"sample_id,group\n1,2\n"),
        ("predictions.csv", b""),
        ("predictions.csv", b"sample_id\n1\n"),
    ],
)
def test_a_damaged_file_of_the_run_is_one_line_and_nothing_is_written(
    run_dir, new_cohort, tmp_path, capsys, name, content
):
    damaged, out = tmp_path / "damaged", tmp_path / "p.csv"
    shutil.copytree(run_dir, damaged)
    (damaged / name).write_bytes(content)
    assert run(damaged, new_cohort, "--out", out) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {damaged}")
    assert name in line
    assert "not as a run writes it" in line
    assert not out.exists()


def test_a_run_is_found_by_its_name(run_dir, new_cohort, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(run_dir, "runs/mine")
    assert run("mine", new_cohort, "--out", "p.csv") == 0
    Path("mine").mkdir()  # such as the cohort, by which a first configuration is called
    assert run("mine", new_cohort, "--out", "o.csv") == 0
    assert run("mina", new_cohort, "--out", "q.csv") == 2
    assert "did you mean 'mine'?" in capsys.readouterr().err


def test_options_allow_what_is_refused(run_dir, new_cohort, tmp_path, capsys):
    change_samples(new_cohort, lambda table: table.assign(sex="X", label="sepsis"))
    words = (run_dir, new_cohort, "--out", tmp_path / "p.csv")
    assert run(*words) == 2
    assert run(*words, "--impute") == 2
    assert run(*words, "--impute", "--ignore-labels") == 0
    table = pd.read_csv(tmp_path / "p.csv", dtype=str)
    assert "target" not in table
    assert "unknown categories of sex" in capsys.readouterr().out


def test_progress_is_drawn_on_a_terminal_alone(run_dir, new_cohort, tmp_path, capsys, monkeypatch):
    class Terminal:
        def __init__(self):
            self.text = ""

        def write(self, text):
            self.text += text

        def flush(self):
            pass

        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert run(run_dir, new_cohort, "--out", tmp_path / "p.csv") == 0
    assert " samples/s" in terminal.text


def test_the_guides_name_every_option(capsys):
    with pytest.raises(SystemExit):
        run("--help")
    options = set(re.findall(r"--[a-z-]+", capsys.readouterr().out)) - {"--help", "--version"}
    assert len(options) >= 8
    folder = Path(__file__).parents[2] / "docs" / "guide"
    told = "".join((folder / name).read_text("utf-8") for name in GUIDES)
    assert {option for option in options if option not in told} == set()
