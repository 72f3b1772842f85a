"""The script on one small case, and that it would see what differs."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys

import pytest
import torch

from engine.checkpointing import load_checkpoint, save_checkpoint
from experiments.benchmarks import resume
from experiments.benchmarks.equal_runs import compare_runs
from experiments.benchmarks.killed_runs import STRAIGHT, Victim
from experiments.benchmarks.resume import Setting, main, try_setting
from experiments.benchmarks.whereabouts import STAGES
from experiments.config import write_yaml

ONE_SETTING = ["--workers", "0", "--accumulation", "3", "--precision", "bf16"]
KILLS = 1
FULL_CONFIG = Setting.config


@pytest.fixture(scope="module")
def work(tmp_path_factory):
    return tmp_path_factory.mktemp("benchmark") / "kept"


def without_page(setting, *arguments):
    """A setting's configuration, without what takes most of the time after training."""
    config = FULL_CONFIG(setting, *arguments)
    return config | {"report": {"enabled": False}, "baselines": {"enabled": False}}


@pytest.fixture(scope="module")
def shown(work, tmp_path_factory):
    """One run of the script: its exit code and its JSON."""
    out = tmp_path_factory.mktemp("out") / "resume.json"
    options = ["--kills", str(KILLS), "--epochs", "1", "--keep", str(work), "--out", str(out)]
    arguments = [*ONE_SETTING, "--forked", *options]
    if torch.cuda.is_available():
        # A backward pass (of another test) has left threads with which no fork can train.
        command = [sys.executable, resume.__file__, *arguments]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
        code = subprocess.run(command, env=environment, check=False).returncode
    else:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Setting, "config", without_page)
            code = main(arguments)
    return code, json.loads(out.read_text())


def test_a_killed_run_ends_as_the_one_left_in_peace(shown):
    code, rows = shown
    assert code == 0
    assert len(rows) == 1
    assert rows[0]["setting"] == {"workers": 0, "accumulation": 3, "precision": "bf16"}
    assert sum(rows[0]["kills"].values()) == KILLS
    assert rows[0]["kills"].keys() <= set(STAGES)
    assert rows[0]["compared"] > 300
    assert rows[0]["differences"] == []


@pytest.fixture
def runs(shown, work, tmp_path):
    straight = work / "workers0-3-bf16" / STRAIGHT
    return straight, shutil.copytree(straight, tmp_path / "other")


def test_every_difference_is_found(runs):
    straight, other = runs
    assert list(compare_runs(straight, other)) == []
    last = other / "checkpoints" / "last.pt"
    content = load_checkpoint(last)
    weight = content["states"]["ema"]["average"]["projection_tab.weight"]
    weight.flatten()[0] = torch.nextafter(weight.flatten()[0], torch.tensor(9.0))
    content["states"]["trainer"]["optimizer_step"] += 1
    save_checkpoint(last, content["states"], content["meta"])
    log = other / "log.jsonl"
    log.write_text("".join(log.read_text().splitlines(keepends=True)[:-1]))
    (other / "predictions.csv").write_text("")
    (other / "checkpoints" / ".last.pt.part").touch()
    found = compare_runs(straight, other)
    assert found.tensors == ["last.pt: ema.average.projection_tab.weight"]
    assert len(found.values) == len(found.rows) == 1
    assert found.files == [
        "checkpoints/.last.pt.part is in one run only",
        "predictions.csv differs",
    ]


def test_a_difference_is_shown_and_makes_the_exit_code_1(monkeypatch, capsys):
    outcome = resume.Outcome(Setting(0, 1, "fp32"), differences=["last.pt: model.weight"])
    monkeypatch.setattr(resume, "try_setting", lambda *_: outcome)
    assert main(ONE_SETTING) == 1
    assert "last.pt: model.weight" in capsys.readouterr().out


def test_a_run_that_fails_by_itself_shows_its_last_lines(tmp_path, shown):
    config = Setting(0, 1, "fp32").config(tmp_path, 1, tmp_path / "cohorts")
    config["optimizer"] = {"lr": "fast"}
    (tmp_path / "config.yaml").write_text(write_yaml(config))
    with pytest.raises(SystemExit, match=r"optimizer\.lr(.|\n)*ended with 2"):
        Victim(tmp_path, random.Random(0)).run_killed("killed", 0)


def test_a_setting_is_tried_in_a_folder_of_its_own(work, shown):
    with pytest.raises(FileExistsError):
        try_setting(Setting(0, 3, "bf16"), 1, 1, work, random.Random(0))
