from __future__ import annotations

import numpy as np
import pytest

from datasets.augmentations import ScanDropout, ScanSampling
from tests.datasets.augmentations.made_scans import rng, scans


def test_scan_dropout_drops_the_asked_part_and_keeps_the_order():
    kept = ScanDropout(0.25)(np.arange(4000, dtype=np.float32)[:, None], rng())[:, 0]
    assert len(kept) == pytest.approx(3000, rel=0.05)
    assert (np.diff(kept) > 0).all()


def test_scan_dropout_keeps_one_of_the_scans_whichever():
    numbered = np.arange(3, dtype=np.float32)[:, None]
    kept = {ScanDropout(1.0)(numbered, rng(seed)).item() for seed in range(50)}
    assert kept == {0.0, 1.0, 2.0}


def test_scan_sampling_keeps_so_many_any_of_them_and_their_order():
    numbered = np.arange(10, dtype=np.float32)[:, None]
    drawn = np.stack([ScanSampling(4)(numbered, rng(seed))[:, 0] for seed in range(500)])
    assert drawn.shape == (500, 4)
    assert (np.diff(drawn) > 0).all()
    np.testing.assert_allclose(np.bincount(drawn.astype(int).ravel()) / 500, 0.4, atol=0.07)


@pytest.mark.parametrize("count", [1, 3, 4])
def test_scan_sampling_keeps_all_where_there_are_no_more(count):
    few = scans(count)
    np.testing.assert_array_equal(ScanSampling(4)(few, rng()), few)
