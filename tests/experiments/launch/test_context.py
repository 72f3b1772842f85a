"""The job as its processes see it; those that torchrun starts are in test_processes.py."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch.distributed as dist

from experiments.launch.context import (
    TOLD,
    LaunchContext,
    _name_of_start,
    begun_run,
    current_launch,
)


@pytest.fixture
def memory():
    return dist.HashStore()


def start(memory, world_size):
    """What the processes of one start call it, each in a thread of its own."""
    with ThreadPoolExecutor(world_size) as threads:
        return list(
            threads.map(lambda rank: _name_of_start(memory, rank, world_size), range(world_size))
        )


def make_job(memory, rank, name="this"):
    return LaunchContext(rank, rank, 2, "none", memory, dist.PrefixStore(name, memory))


def test_a_process_without_torchrun_belongs_to_no_job(monkeypatch):
    for name in TOLD:
        monkeypatch.delenv(name, raising=False)
    assert current_launch() is None
    monkeypatch.setenv("RANK", "1")  # as other launchers set it, too
    assert current_launch() is None


def test_each_start_of_processes_has_its_own_name(memory):
    names = [start(memory, world_size) for world_size in (3, 3, 2, 1, 3)]
    assert all(len(set(each)) == 1 for each in names)
    assert len({each[0] for each in names}) == len(names)


def test_a_process_of_an_earlier_start_is_told_apart(memory):
    memory.set("call/1", "of a process that was killed")
    assert len(set(start(memory, 2))) == 1


def test_of_all_processes_of_a_start_one_prints_first(memory):
    jobs = [make_job(memory, rank) for rank in (1, 0)]
    assert [job.prints_first() for job in jobs] == [True, False]
    assert make_job(memory, 0, name="next").prints_first()


def test_a_run_is_remembered_by_the_starts_that_follow(memory, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert make_job(memory, 1).recall_run() is None
    make_job(memory, 0).remember_run(Path("runs/small"))
    assert make_job(memory, 1, name="next").recall_run() == tmp_path / "runs" / "small"


def test_without_the_jobs_memory_each_process_reports(memory):
    class Gone:
        def add(self, *_):
            raise dist.DistNetworkError("Connection reset by peer")

        check = add

    job = LaunchContext(1, 1, 2, "none", Gone(), Gone())
    assert job.prints_first()
    assert job.recall_run() is None


def named_job(run_id="seven", forgets=True):
    memory = dist.HashStore()
    return LaunchContext(0, 0, 1, run_id, memory, memory, forgets)


@pytest.fixture
def runs(tmp_path):
    """Three runs, the later the newer; of two jobs, the first one's second run being finished."""
    for number, (name, job, finished) in enumerate(
        [("hcc", "seven", False), ("hcc-2", "seven", True), ("hcc-3", "eight", False)]
    ):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "environment.json").write_text(json.dumps({"job": job}))
        os.utime(folder / "environment.json", (number, number))
        events = ["run_started", "run_finished"] if finished else ["run_started"]
        (folder / "log.jsonl").write_text("".join(f'{{"event": "{e}"}}\n' for e in events))
    return tmp_path


def test_what_the_job_remembers_counts(runs):
    job = named_job(forgets=False)
    assert begun_run(job, runs, "hcc") is None
    job.remember_run(runs / "hcc-3")
    assert begun_run(job, runs, "hcc") == runs / "hcc-3"


def test_a_restarted_job_finds_its_unfinished_run(runs):
    assert begun_run(named_job(), runs, "hcc") == runs / "hcc"
    assert begun_run(named_job("eight"), runs, "hcc") == runs / "hcc-3"
    assert begun_run(named_job("nine"), runs, "hcc") is None
    assert begun_run(named_job(), runs, "species") is None


def test_a_job_without_a_name_finds_none_of_another_such_job(runs):
    (runs / "hcc" / "environment.json").write_text(json.dumps({"job": "none"}))
    assert begun_run(named_job("none"), runs, "hcc") is None


def test_a_damaged_environment_is_passed_over(runs):
    (runs / "hcc" / "environment.json").write_text("[")
    assert begun_run(named_job(), runs, "hcc") is None
