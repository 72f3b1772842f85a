from __future__ import annotations

import numpy as np
import pytest

from datasets.simulation.calibration import displacement, draw_warp
from datasets.simulation.generating_model import draw_patients
from datasets.simulation.maldi import make_axis, render_scans
from datasets.simulation.peaks import PeakList
from datasets.simulation.vibrational import VIBRATIONAL, make_even_axis, render_bands


def test_shift_is_the_same_everywhere_and_stretch_opposite_at_the_ends() -> None:
    index = np.array([0.0, 50.0, 100.0])
    moved = displacement(np.array([[2.0, 0.0], [0.0, 3.0], [1.0, -1.0]]), index, 101)
    np.testing.assert_allclose(moved, [[2, 2, 2], [-3, 0, 3], [2, 1, 0]])


def test_strength_is_the_standard_deviation_in_points() -> None:
    warp = draw_warp(20_000, 3.0, np.random.default_rng(0))
    assert warp.std(axis=0) == pytest.approx([3.0, 3.0], rel=0.03)
    assert not draw_warp(10, 0.0, np.random.default_rng(0)).any()


WARP = np.array([[0.0, 0.0], [6.0, 0.0], [-6.0, 0.0], [0.0, 6.0]])
# Where three lone peaks stand, as a share of the axis, and by how many points each is moved.
PLACES = np.array([0.25, 0.5, 0.75])
MOVED = np.array([[0, 0, 0], [6, 6, 6], [-6, -6, -6], [-3, 0, 3]])


def centres(scans: np.ndarray, index: np.ndarray, reach: int) -> np.ndarray:
    """The centre of mass of each scan near each index."""
    near = index[:, None] + np.arange(-reach, reach + 1)
    counts = scans[:, near]
    return (counts * near).sum(axis=2) / counts.sum(axis=2)


def test_a_maldi_peak_is_found_where_its_scan_puts_it() -> None:
    axis, index = make_axis(2_048), (PLACES * 2_047).astype(int)
    height = np.full(60, 1e-9)
    height[:3] = 1e7
    position = np.concatenate([axis[index], np.linspace(19_000, 19_900, 57)])
    peaks = PeakList(position, height, np.arange(50, 58))
    patients = draw_patients(10, np.random.default_rng(0))
    scan_patient = np.zeros(4, dtype=np.int64)
    rng = np.random.default_rng(1)
    scans = np.concatenate(list(render_scans(patients, scan_patient, peaks, axis, rng, WARP)))
    found = centres(scans.astype(float), index, 40)
    # The scan's own error of 250 ppm is below a third of a point here.
    np.testing.assert_allclose(found - found[0], MOVED, atol=1.0)


@pytest.mark.parametrize("name", sorted(VIBRATIONAL))
def test_a_band_is_found_where_its_scan_puts_it(name: str) -> None:
    technique = VIBRATIONAL[name]
    axis, index = make_even_axis(technique, 2_048), (PLACES * 2_047).astype(int)
    position = np.concatenate([axis[index], np.full(33, axis[-1])])
    height, fwhm = np.full(36, 1e-9), np.full(36, 10 * (axis[1] - axis[0]))
    height[:3] = 1e9
    peaks = PeakList(position, height, np.arange(28, 36), fwhm=fwhm)
    patients = draw_patients(10, np.random.default_rng(0))
    scan_patient, rng = np.zeros(4, dtype=np.int64), np.random.default_rng(1)
    blocks = render_bands(technique, patients, scan_patient, peaks, axis, rng, WARP)
    found = centres(np.concatenate(list(blocks)).astype(float), index, 60)
    np.testing.assert_allclose(found - found[0], MOVED, atol=1.5)
