from __future__ import annotations

import os
import subprocess
import sys
import time

import pytest
import torch
from joblib import cpu_count

from datasets.errors import UsageError
from experiments.folds.side_by_side import VISIBLE, SideBySide, gpus

pytestmark = pytest.mark.slow


def about_process(number: int) -> tuple[int, int, int, int]:
    return number, os.getpid(), torch.get_num_threads(), cpu_count()


def refuse(number: int) -> None:
    raise UsageError(f"no {number}")


def die(number: int) -> None:
    os._exit(9)


def test_one_job_is_done_in_this_process():
    with SideBySide(1) as processes:
        found = dict(processes.each(about_process, [5, 6]))
    assert [found[n][:2] for n in (0, 1)] == [(5, os.getpid()), (6, os.getpid())]


def test_several_share_the_cores_and_tell_their_mistakes():
    cores = cpu_count()
    with SideBySide(2) as processes:
        found = dict(processes.each(about_process, [5, 6, 7, 8]))
        assert [found[n][0] for n in range(4)] == [5, 6, 7, 8]
        assert os.getpid() not in {pid for _, pid, _, _ in found.values()}
        share = max(1, cores // 2)
        assert {of[2:] for of in found.values()} == {(share, share)}
        with pytest.raises(UsageError, match="no 3"):
            list(processes.each(refuse, [3]))
        with pytest.raises(UsageError, match="a process of --jobs died"):
            list(processes.each(die, [1]))


def test_each_process_has_a_gpu_in_turn(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.delenv(VISIBLE, raising=False)
    assert gpus("cuda") == gpus("auto") == ["0", "1"]
    assert gpus("cpu") == []
    monkeypatch.setenv(VISIBLE, "3,5")
    assert gpus("cuda") == ["3", "5"]


SLEEPER = """
import sys, time
sys.path.insert(0, {root!r})
from experiments.folds.side_by_side import SideBySide
from tests.experiments.folds.test_side_by_side import sleep
if __name__ == "__main__":
    with SideBySide(2) as processes:
        list(processes.each(sleep, [{folder!r}, {folder!r}]))
"""


def sleep(folder: str) -> None:
    open(f"{folder}/{os.getpid()}", "w").close()
    time.sleep(120)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{pid}/stat") as file:
        return file.read().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.skipif(not os.path.isdir("/proc/self"), reason="looks at processes in /proc")
def test_processes_end_with_a_killed_parent(tmp_path):
    folder = tmp_path / "pids"
    folder.mkdir()
    script = tmp_path / "sleeper.py"
    script.write_text(SLEEPER.format(root=os.getcwd(), folder=str(folder)))
    started = subprocess.Popen([sys.executable, str(script)])
    end = time.monotonic() + 120
    while len(list(folder.iterdir())) < 2 and time.monotonic() < end:
        time.sleep(0.1)
    pids = [int(path.name) for path in folder.iterdir()]
    assert len(pids) == 2
    started.kill()
    started.wait()
    while any(map(alive, pids)) and time.monotonic() < end:
        time.sleep(0.1)
    assert not any(map(alive, pids))
