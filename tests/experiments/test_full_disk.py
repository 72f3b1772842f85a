"""The disk fills up in the middle of a run, and is emptied again."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest

from engine.checkpointing import load_checkpoint
from experiments.benchmarks.equal_runs import compare_runs
from experiments.config import write_yaml
from experiments.run import main

pytestmark = pytest.mark.slow

# At its first iteration of the second of three-iteration epochs.
FULL_AT = 4
# A user's module: the disk is full from an iteration on, as long as a file says so.
FILLS = """
import resource
from pathlib import Path

from ignite.engine import Events

class FullDisk:
    def __init__(self, flag: str, at: int, disk: str | None = None, spare: int = 0) -> None:
        self.flag, self.at, self.spare = Path(flag), at, spare
        self.disk = None if disk is None else Path(disk)

    def attach(self, trainer):
        trainer.add_event_handler(Events.ITERATION_STARTED(once=self.at), self)

    def __call__(self, trainer):
        if not self.flag.exists():
            return
        if self.disk is None:  # no file may become as large as a checkpoint
            hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
            resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, hard))
            return
        with (self.disk / "ballast").open("wb", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(4096))
            except OSError:
                file.truncate(file.tell() - self.spare)
"""


@pytest.fixture
def flag(tmp_path, monkeypatch) -> Path:
    (tmp_path / "fills.py").write_text(FILLS)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "fills", raising=False)
    return tmp_path / "full"


def write_config(settings, tmp_path, flag, **params) -> Path:
    settings["report"] = {"enabled": False, "resamples": 0}
    settings["audit"] = {"enabled": False}
    settings["ema"] = {"decay": 0.9}
    settings["checkpoint"] = {"every_steps": 1, "save_top_k": 1}
    params = {"flag": str(flag), "at": FULL_AT, **params}
    settings["handlers"] = [{"name": "fills.FullDisk", "params": params}]
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    return path


def assert_one_line(stderr: str, folder: Path) -> None:
    assert stderr.startswith("error: cannot "), stderr
    assert stderr.count("\n") == 1, stderr
    assert str(folder) in stderr


def assert_resumes_as_if_nothing_had_been(config, flag, runs, capsys) -> None:
    last = load_checkpoint(runs / "small" / "checkpoints" / "last.pt")
    assert last["states"]["trainer"]["iteration"] == FULL_AT - 1
    assert not list(runs.rglob(".*.part"))
    flag.unlink()
    assert main([str(config), "--resume", "auto"]) == 0
    assert f"iteration {FULL_AT - 1}" in capsys.readouterr().out
    elsewhere = config.parent / "elsewhere"
    assert main([str(config), "--runs_dir", str(elsewhere)]) == 0
    found = compare_runs(elsewhere / "small", runs / "small")
    assert found.compared > 500
    # This process may have started CUDA for other tests, and then saves its streams too.
    assert [each for each in found if "rng.cuda" not in str(each)] == []


def test_a_run_whose_files_may_not_grow_can_be_resumed(settings, tmp_path, flag, capsys):
    config, runs = write_config(settings, tmp_path, flag), tmp_path / "runs"
    flag.touch()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        code = main([str(config)])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    error = capsys.readouterr().err
    assert code == 2
    assert_one_line(error, runs / "small" / "checkpoints")
    assert "the earlier ones stand" in error
    assert_resumes_as_if_nothing_had_been(config, flag, runs, capsys)


@pytest.fixture
def small_disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=80m", "tmpfs", str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("a disk of 80 MB cannot be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("spare", [0, 65536])  # bytes: for nothing at all, or for the log
def test_a_run_on_a_full_disk_can_be_resumed(settings, tmp_path, flag, small_disk, spare, capsys):
    settings["runs_dir"] = str(small_disk)
    config = write_config(settings, tmp_path, flag, disk=str(small_disk), spare=spare)
    flag.touch()
    assert main([str(config)]) == 2
    assert_one_line(capsys.readouterr().err, small_disk)
    (small_disk / "ballast").unlink()
    assert_resumes_as_if_nothing_had_been(config, flag, small_disk, capsys)


def test_a_disk_that_is_full_from_the_start_is_one_line(settings, tmp_path, small_disk, capsys):
    settings["runs_dir"] = str(small_disk)
    (tmp_path / "small.yaml").write_text(write_yaml(settings))
    (small_disk / "small").mkdir()
    with (small_disk / "ballast").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))
    assert main([str(tmp_path / "small.yaml")]) == 2
    assert_one_line(capsys.readouterr().err, small_disk)


def test_exports_that_failed_are_written_on_resume(settings, tmp_path, flag, monkeypatch, capsys):
    config, run_dir = write_config(settings, tmp_path, flag), tmp_path / "runs" / "small"
    replace, arguments = os.replace, [str(config)]
    for name in ("predictions.csv", "model.safetensors", "summary.md"):

        def full(source, target, name=name):
            if Path(target).name == name:
                raise OSError(28, "No space left on device")
            replace(source, target)

        with monkeypatch.context() as disk:
            disk.setattr(os, "replace", full)
            assert main(arguments) == 2
        assert_one_line(capsys.readouterr().err, run_dir)
        assert not list(run_dir.rglob(name))
        arguments = [str(config), "--resume", "auto"]
    assert main(arguments) == 0
    for name in ("predictions.csv", "model.safetensors", "summary.md"):
        assert list(run_dir.rglob(name))
