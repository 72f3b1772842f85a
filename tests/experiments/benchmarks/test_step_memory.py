from __future__ import annotations

import sys

import pytest
import torch

from experiments.benchmarks.step_memory import StepMemory

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
MEBIBYTES = 64


def take():
    return torch.ones(MEBIBYTES, 2**18).sum()


@linux
def test_the_second_who_takes_as_much_is_seen_to_take_as_much():
    for _ in range(2):
        with StepMemory(torch.device("cpu")) as memory:
            take()
        assert memory.mebibytes == pytest.approx(MEBIBYTES, rel=0.3)
        assert memory.reserved == memory.mebibytes


def test_a_gpus_memory_is_counted_from_where_it_stood(monkeypatch):
    held = {"memory_allocated": 100, "memory_reserved": 120}
    most = {"max_memory_allocated": 164, "max_memory_reserved": 220}
    for name, mebibytes in {**held, **most}.items():
        monkeypatch.setattr(torch.cuda, name, lambda device, value=mebibytes: value * 2**20)
    began: list[str] = []
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: began.append("."))
    with StepMemory(torch.device("cuda")) as memory:
        assert began
    assert (memory.mebibytes, memory.reserved) == (64, 100)
