from __future__ import annotations

import contextlib
import errno
import json
import os
import platform
import signal

import filelock
import pytest

from datasets.errors import UsageError
from experiments.config import Config
from experiments.run_files import folder as run_folder
from experiments.run_files.folder import (
    FINISHED,
    RunLock,
    find_run,
    is_finished,
    new_run_dir,
    require_place,
    write_config,
)
from experiments.runs import Experiment, dry_run


def make_run(runs, name, *events, age=0):
    folder = runs / name
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    stamp = 1_000_000 - age
    os.utime(folder / "config.yaml", (stamp, stamp))
    (folder / "log.jsonl").write_text("".join(json.dumps({"event": e}) + "\n" for e in events))
    return folder


def test_an_existing_run_is_never_overwritten(tmp_path):
    names = [new_run_dir(tmp_path, "a").name for _ in range(3)]
    assert names == ["a", "a-2", "a-3"]


def test_a_runs_dir_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="runs_dir: cannot make"):
        new_run_dir(tmp_path / "file", "a")


def test_a_dry_run_refuses_a_runs_dir_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match=r"runs_dir: cannot make .*file is not a folder"):
        dry_run(Config(runs_dir=tmp_path / "file" / "runs"), None)
    require_place(tmp_path / "new" / "runs")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_finished_means_exported_since_the_last_start(tmp_path):
    assert is_finished(make_run(tmp_path, "done", "run_started", "epoch", FINISHED))
    assert not is_finished(make_run(tmp_path, "cut", "run_started", "epoch"))
    again = make_run(tmp_path, "again", "run_started", FINISHED, "run_resumed", "epoch")
    assert not is_finished(again)


def test_auto_finds_the_newest_unfinished_run_of_that_name(tmp_path):
    make_run(tmp_path, "a", "run_started", age=50)
    newest = make_run(tmp_path, "a-2", "run_started", age=10)
    make_run(tmp_path, "a-3", "run_started", FINISHED, age=5)
    make_run(tmp_path, "b", "run_started")
    assert find_run("auto", tmp_path, "a") == newest


def test_auto_takes_no_fold_or_family_for_the_run(tmp_path):
    make_run(tmp_path, "a-fold0", "run_started")
    make_run(tmp_path, "a-tft-s0", "run_started")
    with pytest.raises(UsageError, match="no unfinished run of 'a'"):
        find_run("auto", tmp_path, "a")


def test_a_run_is_found_by_name_and_by_folder(tmp_path):
    run = make_run(tmp_path, "a", "run_started")
    assert find_run("a", tmp_path, "x") == run
    assert find_run(str(run), tmp_path / "elsewhere", "x") == run


def test_no_run_to_continue_is_refused(tmp_path):
    make_run(tmp_path, "first", "run_started", FINISHED)
    with pytest.raises(UsageError, match="no unfinished run of 'first'"):
        find_run("auto", tmp_path, "first")
    with pytest.raises(UsageError, match="did you mean 'first'"):
        find_run("frist", tmp_path, "x")


def test_a_changed_configuration_keeps_the_former_one(tmp_path):
    for epochs in (3, 3, 5, 7):
        write_config(tmp_path, Config.model_validate({"trainer": {"max_epochs": epochs}}))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "config.former-1.yaml",
        "config.former-2.yaml",
        "config.yaml",
        "resolved.yaml",
    ]
    assert "max_epochs: 3" in (tmp_path / "config.former-1.yaml").read_text()
    assert "max_epochs: 7" in (tmp_path / "config.yaml").read_text()


def test_a_cut_while_settings_change_keeps_the_former(tmp_path, monkeypatch):
    write_config(tmp_path, Config.model_validate({"trainer": {"max_epochs": 3}}))
    replace = os.replace

    def cut(source, target):
        if target.name == "config.yaml":
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", cut)
    with pytest.raises(KeyboardInterrupt):
        write_config(tmp_path, Config.model_validate({"trainer": {"max_epochs": 5}}))
    assert "max_epochs: 3" in (tmp_path / "config.yaml").read_text()


@pytest.mark.slow
@pytest.mark.parametrize("last", ["write_splits", "write_config"])
def test_a_run_cut_during_set_up_is_not_continued(make_config, monkeypatch, last):
    def cut(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"experiments.runs.run_setup.{last}", cut)
    config = make_config()
    with pytest.raises(KeyboardInterrupt):
        Experiment(config).setup()
    monkeypatch.undo()
    with pytest.raises(UsageError, match="no unfinished run"):
        find_run("auto", config.runs_dir, config.exp_name)
    Experiment(config).setup()
    run_dir = find_run("auto", config.runs_dir, config.exp_name)
    Experiment(config, run_dir).setup()


def in_another_process(work):
    """Fork a process that does something and stays; its number, and what it returned."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            held = work()  # noqa: F841  kept for as long as the process lives
            os.write(writer, b"done")
        except UsageError as error:
            os.write(writer, str(error).encode())
        signal.pause()
    os.close(writer)
    return child, os.read(reader, 1000).decode()


def end(child, number=signal.SIGKILL):
    os.kill(child, number)
    os.waitpid(child, 0)


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock."""
    child, said = in_another_process(lambda: RunLock(tmp_path))
    assert said == "done"
    yield child
    with contextlib.suppress(ProcessLookupError, ChildProcessError):
        end(child)


def test_a_second_process_is_told_who_has_the_run(tmp_path, holder, monkeypatch):
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.1)
    before = (tmp_path / ".lock").read_bytes()
    words = f"the run in {tmp_path} is being continued by process {holder} on "
    with pytest.raises(UsageError, match=words + platform.node()):
        RunLock(tmp_path)
    assert (tmp_path / ".lock").read_bytes() == before


def test_a_lock_ends_with_its_process(tmp_path, holder):
    end(holder)
    assert (tmp_path / ".lock").exists()  # what is left of it locks nothing
    lock = RunLock(tmp_path)
    lock.release()
    assert not any(tmp_path.iterdir())


def test_one_process_may_take_a_lock_twice(tmp_path):
    first, second = RunLock(tmp_path), RunLock(tmp_path)
    first.release()
    first.release()
    assert (tmp_path / ".lock").exists()
    second.release()
    assert not (tmp_path / ".lock").exists()


def test_a_child_does_not_keep_its_parents_lock(tmp_path, monkeypatch):
    monkeypatch.setattr(run_folder, "PATIENCE_S", 0.1)
    lock = RunLock(tmp_path)
    worker, _ = in_another_process(lambda: None)  # as a loader's, that outlives its parent
    lock.release()
    other, said = in_another_process(lambda: RunLock(tmp_path))
    end(worker)
    end(other)
    assert said == "done"


@pytest.mark.parametrize(
    "error", [NotImplementedError(), OSError(errno.ENOSYS, "no"), OSError(errno.ENOLCK, "no")]
)
def test_a_file_system_without_locks_is_said_and_used(tmp_path, monkeypatch, capsys, error):
    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    RunLock(tmp_path).release()
    said = capsys.readouterr().err
    assert said.startswith(f"no lock in {tmp_path}: its file system has none")
    assert said.count("\n") == 1
    assert not any(tmp_path.iterdir())
