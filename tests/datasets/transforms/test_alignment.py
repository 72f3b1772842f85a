from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from datasets.errors import UsageError
from datasets.transforms import Align
from datasets.transforms.peaks import find_peaks, peak_tops
from tests.datasets.transforms.made_spectra import peaks_at

AXIS = np.linspace(1000.0, 3000.0, 1001)  # steps of 2
PLACES = np.array([1150.0, 1400, 1651, 1900.7, 2201, 2448, 2850])


def displaced(displace, count=40, seed=0, noise=0.002, axis=AXIS):
    """Scans of the peaks at places that ``displace(places, number from -1 to 1)`` says."""
    rng, draw = np.random.default_rng(seed), peaks_at(axis, width=6)
    numbers = np.linspace(-1, 1, count)
    heights = np.exp(0.3 * rng.standard_normal((count, len(PLACES))))
    scans = np.stack([draw(displace(PLACES, n), h) for n, h in zip(numbers, heights, strict=True)])
    return scans + rng.normal(0, noise, scans.shape).astype(np.float32)


def tops_of(scans, axis=AXIS):
    """The places of the peaks of each scan that has all of them, [n, peaks]."""
    found = find_peaks(scans, 20, 10)
    assert (found.sum(axis=1) == len(PLACES)).all()
    tops = np.interp(peak_tops(scans, found), np.arange(len(axis)), axis)
    return tops.reshape(len(scans), len(PLACES))


def aligned(scans, axis=AXIS, **params):
    align = Align(**{"snr": 20, "half_window": 10, **params})
    align.set_axis(axis)
    return align.fit([scans[:11], scans[11:]]), align(scans)


WARPS = {
    "offset": (lambda x, n: x + 5 * n, {}),
    "stretch": (lambda x, n: x * (1 + 0.002 * n), {}),
    "bent": (lambda x, n: x + 5 * n * ((x - 2000) / 1000) ** 2, {"warp": "quadratic"}),
    "of flight times": (
        lambda x, n: (np.sqrt(x) * (1 + 0.001 * n) + 0.01 * n) ** 2,
        {"scale": "sqrt"},
    ),
    "relative": (lambda x, n: x * (1 + 0.002 * n), {"max_shift": "4000ppm"}),
}


@pytest.mark.parametrize("warp", WARPS)
def test_displaced_peaks_come_back_within_a_tenth_of_a_point(warp):
    displace, params = WARPS[warp]
    scans = displaced(displace)
    align, out = aligned(scans, **{"max_shift": 5, **params})
    spread = np.ptp(tops_of(scans), axis=0).max()
    assert spread > 7  # three points and a half
    assert np.ptp(tops_of(out), axis=0).max() < 0.25
    np.testing.assert_allclose(tops_of(out).mean(axis=0), align.reference, atol=0.3)
    np.testing.assert_allclose(align.reference, PLACES, atol=0.7)
    assert align.unaligned == 0
    assert out.max() == pytest.approx(scans.max(), rel=0.03)


def test_given_reference_peaks_are_where_the_peaks_go():
    scans = displaced(lambda x, n: x + 5 * n + 3)
    _, out = aligned(scans, max_shift=5, reference=PLACES.tolist())
    assert np.abs(tops_of(scans) - PLACES).max() > 7
    assert np.abs(tops_of(out) - PLACES).max() < 0.3


def test_only_frequent_peaks_are_learnt():
    scans = displaced(lambda x, n: x + 2 * n)
    draw = peaks_at(AXIS, width=6)
    scans[:12] += draw([2600], [1.0])
    assert len(aligned(scans, min_frequency=0.5)[0].reference) == len(PLACES)
    assert len(aligned(scans, min_frequency=0.25)[0].reference) == len(PLACES) + 1


def test_a_scan_with_too_few_peaks_stays_as_it_is_and_is_counted():
    scans = displaced(lambda x, n: x + 3 * n)
    draw = peaks_at(AXIS, width=6)
    scans[5] = draw(PLACES[:2] + 3)
    scans[9] = 0
    align, out = aligned(scans, min_matches=3)
    np.testing.assert_array_equal(out[[5, 9]], scans[[5, 9]])
    assert (align.scans, align.unaligned) == (40, 2)
    assert align.describe() == (
        "align: 7 reference peaks; 2 of 40 training scans have fewer than 3 of them and stay as "
        "they are"
    )
    assert not np.array_equal(out[0], scans[0])


def test_no_point_is_moved_further_than_the_largest_shift():
    draw, reference = peaks_at(AXIS, width=6), np.array([1900.0, 2000, 2100])
    # Ten times as far off at 1100, were the stretch continued.
    scan = draw([1100, 1891, 2000, 2109])
    align = Align(max_shift=5, reference=reference.tolist(), snr=20, half_window=10)
    align.set_axis(AXIS)
    out = align(scan)
    tops = np.interp(peak_tops(out[None], find_peaks(out, 20, 10)[None]), np.arange(1001), AXIS)
    np.testing.assert_allclose(tops[1:], reference, atol=0.3)
    assert abs(tops[0] - 1100) == pytest.approx(10, abs=0.1)  # five points


def test_a_peak_beyond_the_largest_shift_is_another_one():
    scans = displaced(lambda x, n: x + 20.0, noise=0)
    align = Align(max_shift=5, reference=PLACES.tolist(), snr=20, half_window=10)
    align.set_axis(AXIS)
    np.testing.assert_array_equal(align(scans), scans)


def test_training_scans_alone_say_where_the_peaks_belong():
    align, _ = aligned(displaced(lambda x, n: x + 3 * n))
    before = align.reference.copy()
    align(displaced(lambda x, n: x + 4))
    np.testing.assert_array_equal(align.reference, before)


def test_what_was_learnt_is_saved_and_loaded():
    scans = displaced(lambda x, n: x + 3 * n)
    align, out = aligned(scans)
    file = io.BytesIO()
    torch.save(align.state_dict(), file)
    file.seek(0)
    loaded = Align(snr=20, half_window=10)
    loaded.set_axis(AXIS)
    loaded.load_state_dict(torch.load(file, weights_only=True))
    np.testing.assert_array_equal(loaded(scans), out)
    assert loaded.describe() == align.describe()


def test_what_cannot_be_learnt_is_one_line():
    align = Align(snr=3)
    align.set_axis(AXIS)
    with pytest.raises(UsageError, match="align: there is no training scan to learn from"):
        align.fit([])
    noise = np.random.default_rng(0).normal(size=(50, 1001)).astype(np.float32)
    with pytest.raises(UsageError, match="align: only 0 peaks are in 50% of the 50 training scans"):
        align.fit([noise])
    with pytest.raises(UsageError, match="align: only 0 peaks"):
        align.fit([np.zeros_like(noise)])
    with pytest.raises(RuntimeError, match="align is called before fit"):
        align(noise)


@pytest.mark.parametrize(
    ("axis", "params", "said"),
    [
        (AXIS - 1500, {"scale": "sqrt"}, r"align\.scale: 'sqrt' needs an axis from 0 on, not -500"),
        (AXIS - 1000, {"max_shift": "9ppm"}, r"align\.max_shift: ppm need an axis above 0, not"),
        (AXIS, {"reference": [1200, 1300, 4000]}, r"align\.reference: 4000 is not on the axis, 10"),
    ],
)
def test_what_does_not_suit_the_axis_is_refused(axis, params, said):
    with pytest.raises(UsageError, match=said):
        Align(**params).set_axis(axis)
