from __future__ import annotations

import contextlib
import errno
import os
import platform
import signal

import filelock
import pytest

from datasets.errors import UsageError
from experiments.run_files import lock as run_lock
from experiments.run_files.lock import RunLock


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
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.1)
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
    monkeypatch.setattr(run_lock, "PATIENCE_S", 0.1)
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
