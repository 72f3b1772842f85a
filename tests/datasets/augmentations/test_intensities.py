from __future__ import annotations

import numpy as np
import pytest

from datasets.augmentations import (
    BaselineDrift,
    Intensity,
    Noise,
    PeakDropout,
    ScanDropout,
    ScanSampling,
)
from tests.datasets.augmentations.made_scans import rng, scans


def test_noise_has_the_asked_size():
    added = Noise(0.3)(np.zeros((10, 1000), dtype=np.float32), rng())
    assert added.std() == pytest.approx(0.3, rel=0.03)
    assert abs(added.mean()) < 0.01


def test_intensity_scales_each_scan_by_one_factor_of_its_own():
    base = scans(2000, 5) + np.float32(0.5)
    ratio = Intensity(0.2)(base, rng()) / base
    np.testing.assert_allclose(ratio, ratio[:, :1].repeat(5, axis=1), rtol=1e-5)
    logs = np.log(ratio[:, 0])
    assert logs.std() == pytest.approx(0.2, rel=0.1)
    assert abs(np.median(logs)) < 0.02


def test_a_baseline_drifts_smoothly_by_part_of_the_spread():
    base = scans(400, 300) * np.array([[1.0], [100.0]] * 200, dtype=np.float32)
    drift = BaselineDrift(0.3, waves=3)(base, rng()) - base
    relative = drift / base.std(axis=1, keepdims=True)
    for of_one_scale in (relative[::2], relative[1::2]):
        assert np.sqrt(np.square(of_one_scale).mean()) == pytest.approx(0.3, rel=0.1)
    assert np.abs(np.diff(relative)).max() < 0.05
    assert len(np.unique(relative[:, 0])) > 390  # another one for each scan


def test_a_constant_scan_has_no_spread_to_drift_by():
    flat = np.full((2, 30), 5, dtype=np.float32)
    np.testing.assert_array_equal(BaselineDrift(0.5)(flat, rng()), flat)


def test_peak_dropout_takes_the_asked_share_and_whole_windows():
    ones = np.ones((1, 2000), dtype=np.float32)
    dropped = [PeakDropout(0.2, 20, "zero")(ones, rng(seed))[0] == 0 for seed in range(100)]
    assert np.mean(dropped) == pytest.approx(0.2, abs=0.02)
    for drop in dropped:
        edges = np.flatnonzero(np.diff(drop.astype(int), prepend=0, append=0)).reshape(-1, 2)
        inside = (edges[:, 0] > 0) & (edges[:, 1] < 2000)
        assert (np.diff(edges[inside], axis=1) % 20 == 0).all()


def test_windows_begin_anywhere():
    ones = np.ones((1, 2000), dtype=np.float32)
    starts = set()
    for seed in range(200):
        dropped = PeakDropout(0.1, 20, "zero")(ones, rng(seed))[0] == 0
        starts |= {int(start) % 20 for start in np.flatnonzero(np.diff(dropped.astype(int)) > 0)}
    assert len(starts) == 20


def test_all_scans_of_a_sample_lose_the_same_peaks():
    base = scans(5, 500) + np.float32(1)
    lost = PeakDropout(0.3, 10, "zero")(base, rng()) == 0
    assert 0 < lost.mean() < 1
    assert (lost == lost[0]).all()


def test_a_peak_gives_way_to_the_line_under_it():
    slope = np.linspace(5, 1, 101, dtype=np.float32)
    scan = slope.copy()
    scan[45:55] += 10
    outs = [PeakDropout(1.0, 40)(scan[None], rng(seed))[0] for seed in range(50)]
    # Where one window holds the whole peak.
    gone = [out for out in outs if np.abs(out - slope).max() < 1e-5]
    assert len(gone) > 20


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
