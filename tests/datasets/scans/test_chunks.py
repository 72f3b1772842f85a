from __future__ import annotations

import numpy as np

from datasets.scans.chunks import iterate_chunks


def test_the_chunks_are_the_asked_rows_in_order_and_none_is_too_large(tmp_path):
    np.save(tmp_path / "spectra.npy", np.random.default_rng(0).random((10, 4), dtype=np.float32))
    spectra = np.load(tmp_path / "spectra.npy", mmap_mode="r")
    rows = np.array([9, 1, 1, 4, 0])
    chunks = list(iterate_chunks(spectra, rows, chunk_bytes=2 * 4 * 4))
    assert [len(chunk) for chunk in chunks] == [2, 2, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), np.asarray(spectra)[rows])


def test_a_chunk_is_an_own_float32_copy():
    spectra = np.ones((3, 2))
    (chunk,) = iterate_chunks(spectra, np.arange(3))
    chunk[:] = 0
    assert chunk.dtype == np.float32
    assert type(chunk) is np.ndarray
    assert spectra.min() == 1


def test_a_scan_larger_than_a_chunk_is_read_whole():
    assert [c.shape for c in iterate_chunks(np.ones((2, 9)), np.arange(2), chunk_bytes=1)] == [
        (1, 9),
        (1, 9),
    ]


def test_no_rows_give_no_chunk():
    assert list(iterate_chunks(np.ones((2, 9)), np.arange(0))) == []
