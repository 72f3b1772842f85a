from __future__ import annotations

import sys

import pytest
import torch

from experiments.benchmarks.peak_memory import PeakMemory

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")


@linux
def test_what_is_held_for_a_while_is_seen():
    with PeakMemory() as peak:
        for _ in range(20):
            held = torch.ones(64, 2**18)  # 64 MiB
            del held
    assert 50 < peak.mebibytes < 200


@linux
def test_what_stood_before_is_not_counted():
    held = torch.ones(128, 2**18)
    with PeakMemory() as peak:
        held.sum()
    assert peak.mebibytes < 50
