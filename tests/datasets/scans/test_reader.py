from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets import scans as scan_module
from datasets.errors import CohortError
from datasets.scans import Runs, ScanBuffers, ScanReader, iterate_chunks

VALUES = np.random.default_rng(0).random((40, 7), dtype=np.float32)
on_file = pytest.mark.skipif(not scan_module.HAS_PREADV, reason="files are mapped here")


@pytest.fixture(scope="module")
def file(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("spectra") / "spectra.npy"
    np.save(path, VALUES)
    return path


@given(rows=st.lists(st.integers(0, 39), max_size=30))
def test_rows_come_in_the_order_they_are_asked_for(file, rows):
    wanted = np.array(rows, dtype=np.int64)
    for spectra in (np.load(file, mmap_mode="r"), VALUES):
        scans = ScanReader(spectra).read(wanted)
        assert scans.dtype == np.float32
        np.testing.assert_array_equal(scans, VALUES[wanted])


def test_runs_are_read_to_their_places_only(file):
    runs = Runs(np.array([30, 2]), np.array([3, 1]), np.array([1, 5]))
    for spectra in (np.load(file, mmap_mode="r"), VALUES, VALUES.astype(np.float64)):
        into = np.full((7, 7), -1, dtype=np.float32)
        ScanReader(spectra).read_runs(runs, into)
        np.testing.assert_array_equal(into[1:4], VALUES[30:33])
        np.testing.assert_array_equal(into[5], VALUES[2])
        assert (into[[0, 4, 6]] == -1).all()


def test_what_is_read_can_be_changed_without_harm(file):
    reader = ScanReader(np.load(file, mmap_mode="r"))
    reader.read(np.arange(3))[:] = -1
    np.testing.assert_array_equal(reader.read(np.arange(3)), VALUES[:3])


@pytest.mark.parametrize(
    "spectra",
    [
        pytest.param(lambda mapped: mapped[10:], id="rows of a map"),
        pytest.param(lambda mapped: mapped[:, ::2], id="points of a map"),
        pytest.param(lambda mapped: mapped.astype(np.float64), id="another type"),
    ],
)
def test_what_is_no_plain_file_is_read_alike(file, spectra):
    shown = spectra(np.load(file, mmap_mode="r"))
    reader = ScanReader(shown)
    rows = np.array([5, 0, 1])
    np.testing.assert_array_equal(reader.read(rows), np.asarray(shown)[rows])
    again = pickle.loads(pickle.dumps(reader))
    np.testing.assert_array_equal(again.read(rows), np.asarray(shown)[rows])


def test_a_file_by_columns_is_read_alike(tmp_path):
    np.save(tmp_path / "f.npy", np.asfortranarray(VALUES))
    reader = ScanReader(np.load(tmp_path / "f.npy", mmap_mode="r"))
    np.testing.assert_array_equal(reader.read(np.array([3, 1])), VALUES[[3, 1]])


def test_without_preadv_the_map_is_read(file, monkeypatch):
    monkeypatch.setattr(scan_module, "HAS_PREADV", False)
    monkeypatch.delattr(os, "preadv", raising=False)
    reader = ScanReader(np.load(file, mmap_mode="r"))
    np.testing.assert_array_equal(reader.read(np.array([3, 1])), VALUES[[3, 1]])


def test_sent_to_another_process_it_opens_the_file_again(tmp_path):
    np.save(tmp_path / "big.npy", np.ones((1000, 64), dtype=np.float32))
    sent = pickle.dumps(ScanReader(np.load(tmp_path / "big.npy", mmap_mode="r")))
    assert len(sent) < 1000
    assert pickle.loads(sent).read(np.array([999])).sum() == 64


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="processes are not forked here"
)
def test_two_forked_processes_do_not_disturb_each_other(file):
    reader = ScanReader(np.load(file, mmap_mode="r"))
    with multiprocessing.get_context("fork").Pool(2) as pool:
        parts = pool.map(reader.read, [np.array([number]) for number in range(40)])
    np.testing.assert_array_equal(np.concatenate(parts), VALUES)


@on_file
@pytest.mark.parametrize("rows", [[40], [-1], [3, 50]])
def test_a_row_that_is_not_there_is_refused(file, rows):
    with pytest.raises(IndexError):
        ScanReader(np.load(file, mmap_mode="r")).read(np.array(rows))


@on_file
def test_a_short_read_is_continued(file, monkeypatch):
    whole = os.preadv
    calls = []

    def little(file, buffers, offset):
        calls.append(offset)
        return whole(file, [buffers[0][:10]], offset)

    reader = ScanReader(np.load(file, mmap_mode="r"))
    monkeypatch.setattr(os, "preadv", little)
    np.testing.assert_array_equal(reader.read(np.array([4, 5, 0])), VALUES[[4, 5, 0]])
    assert len(calls) > 2


@on_file
def test_a_file_that_was_cut_is_said_to_be(tmp_path):
    np.save(tmp_path / "cut.npy", VALUES)
    reader = ScanReader(np.load(tmp_path / "cut.npy", mmap_mode="r"))
    os.truncate(tmp_path / "cut.npy", 500)
    with pytest.raises(CohortError, match="shorter than when it was opened"):
        reader.read(np.arange(40))


MEMORY_OF = """
import resource, sys
import numpy as np
from datasets.scans import ScanReader

reader = ScanReader(np.load(sys.argv[1], mmap_mode="r"))
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for start in range(0, 16384, 512):
    reader.read(np.arange(start, start + 512))
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**10)
"""


@pytest.mark.slow
@on_file
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere memory is counted in other units")
def test_a_file_that_was_read_to_its_end_takes_no_memory(tmp_path):
    path = tmp_path / "large.npy"
    np.lib.format.open_memmap(path, "w+", np.float32, (16384, 2048))  # 128 MiB
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_OF, str(path)], capture_output=True, text=True, check=True
    )
    assert float(done.stdout) < 40


def test_chunks_hold_the_rows_in_order_within_the_limit(tmp_path, monkeypatch):
    np.save(tmp_path / "spectra.npy", np.random.default_rng(0).random((10, 4), dtype=np.float32))
    spectra = np.load(tmp_path / "spectra.npy", mmap_mode="r")
    rows = np.array([9, 1, 1, 4, 0])
    monkeypatch.setattr("datasets.scans.CHUNK_BYTES", 2 * 4 * 4)
    chunks = list(iterate_chunks(spectra, rows))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), np.asarray(spectra)[rows])


def test_a_chunk_is_an_own_float32_copy():
    spectra = np.ones((3, 2))
    (chunk,) = iterate_chunks(spectra, np.arange(3))
    chunk[:] = 0
    assert chunk.dtype == np.float32
    assert type(chunk) is np.ndarray
    assert spectra.min() == 1


def test_a_scan_larger_than_a_chunk_is_read_whole(monkeypatch):
    monkeypatch.setattr("datasets.scans.CHUNK_BYTES", 1)
    chunks = iterate_chunks(np.ones((2, 9)), np.arange(2))
    assert [chunk.shape for chunk in chunks] == [(1, 9), (1, 9)]


def test_no_rows_give_no_chunk():
    assert list(iterate_chunks(np.ones((2, 9)), np.arange(0))) == []


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
    monkeypatch.setattr(scan_module, "KEPT_BYTES", 2**20)
    buffers = ScanBuffers()
    held = [buffers.empty(2**17) for _ in range(4)]  # half a mebibyte each
    held.clear()
    assert sum(size * len(free) for size, free in buffers._free.items()) <= 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux counts faults like this")
def test_memory_of_unequal_batches_is_not_cleared_again():
    resource = pytest.importorskip("resource")
    buffers, sizes = ScanBuffers(), np.random.default_rng(0).integers(100, 1000, 200)

    def fill() -> int:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        for size in sizes:
            buffers.empty(int(size), 1024)[:] = 0
        return int(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

    fill()
    assert fill() < 200 * 100 * 1024 * 4 / os.sysconf("SC_PAGE_SIZE") / 10
