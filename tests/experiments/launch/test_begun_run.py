from __future__ import annotations

import json
import os

import pytest
import torch.distributed as dist

from experiments.launch import LaunchContext, begun_run


def make_job(run_id="seven", forgets=True):
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
    job = make_job(forgets=False)
    assert begun_run(job, runs, "hcc") is None
    job.remember_run(runs / "hcc-3")
    assert begun_run(job, runs, "hcc") == runs / "hcc-3"


def test_a_job_that_forgets_finds_the_unfinished_run_that_bears_its_name(runs):
    assert begun_run(make_job(), runs, "hcc") == runs / "hcc"
    assert begun_run(make_job("eight"), runs, "hcc") == runs / "hcc-3"
    assert begun_run(make_job("nine"), runs, "hcc") is None
    assert begun_run(make_job(), runs, "species") is None


def test_a_job_without_a_name_finds_none_of_another_such_job(runs):
    (runs / "hcc" / "environment.json").write_text(json.dumps({"job": "none"}))
    assert begun_run(make_job("none"), runs, "hcc") is None


def test_a_damaged_environment_is_passed_over(runs):
    (runs / "hcc" / "environment.json").write_text("[")
    assert begun_run(make_job(), runs, "hcc") is None
