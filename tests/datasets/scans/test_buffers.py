from __future__ import annotations

import gc
import multiprocessing
import os
import sys
from typing import Any

import numpy as np
import pytest
import torch

from datasets.scans import buffers as scan_buffers
from datasets.scans.buffers import ScanBuffers


def address(array: np.ndarray) -> int:
    return int(array.__array_interface__["data"][0])


def test_arrays_are_what_was_asked_for():
    buffers = ScanBuffers()
    for shape in ((3, 4), (100, 1000), (4, 50, 1000), (0, 5), (5, 0)):
        scans = buffers.empty(*shape)
        assert scans.shape == shape
        assert scans.dtype == np.float32
        scans[:] = 1
        assert scans.flags.c_contiguous


@pytest.mark.parametrize(
    "hold",
    [
        pytest.param(lambda scans: scans, id="itself"),
        pytest.param(lambda scans: scans[3:5], id="a view"),
        pytest.param(lambda scans: scans[3:5][1:], id="a view of a view"),
        pytest.param(lambda scans: scans.reshape(10, 10, -1)[0], id="another shape"),
        pytest.param(torch.from_numpy, id="a tensor"),
        pytest.param(lambda scans: torch.from_numpy(scans).view(-1)[5:], id="a part of a tensor"),
    ],
)
def test_memory_that_somebody_holds_is_not_used_again(hold):
    buffers = ScanBuffers()
    held = hold(buffers.empty(100, 1000))
    held[:] = 7
    for _ in range(3):
        buffers.empty(100, 1000)[:] = -1
        gc.collect()
    assert (held == 7).all()


def test_memory_that_nobody_holds_is_used_again_for_what_fits():
    buffers = ScanBuffers()
    first = buffers.empty(100, 1000)
    where = address(first)
    other = buffers.empty(100, 1000)
    assert address(other) != where
    del first
    assert address(buffers.empty(130, 1000)) == where


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are not forked here")
def test_a_forked_process_writes_to_memory_of_its_own():
    buffers = ScanBuffers()
    held, free = buffers.empty(100, 1000), buffers.empty(100, 1000)
    held[:] = 7
    del free
    context = multiprocessing.get_context("fork")
    forked, written = context.Event(), context.Event()
    process = context.Process(target=overwrite, args=(buffers, held, forked, written))
    process.start()
    # Both processes take the memory that was free when they parted.
    mine = buffers.empty(100, 1000)
    mine[:] = 5
    forked.set()
    assert written.wait(timeout=60)
    process.join()
    assert (held == 7).all()
    assert (mine == 5).all()


def overwrite(buffers: ScanBuffers, held: np.ndarray, forked: Any, written: Any) -> None:
    forked.wait()
    buffers.empty(100, 1000)[:] = -1
    held[:] = -1
    written.set()


def test_no_more_is_kept_than_allowed(monkeypatch):
    monkeypatch.setattr(scan_buffers, "KEPT_BYTES", 2**20)
    buffers = ScanBuffers()
    held = [buffers.empty(2**17) for _ in range(4)]  # half a mebibyte each
    held.clear()
    assert sum(size * len(free) for size, free in buffers._free.items()) <= 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts faults like this")
def test_batches_of_unequal_sizes_are_not_cleared_by_the_system_again_and_again():
    resource = pytest.importorskip("resource")
    buffers, sizes = ScanBuffers(), np.random.default_rng(0).integers(100, 1000, 200)

    def fill() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for size in sizes:
            buffers.empty(int(size), 1024)[:] = 0
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    fill()
    assert fill() < 200 * 100 * 1024 * 4 / os.sysconf("SC_PAGE_SIZE") / 10
