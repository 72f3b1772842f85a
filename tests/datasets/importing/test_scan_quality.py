from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.importing.scan_quality import REASONS, ScanFilter
from datasets.readers import RawScan


def scan_of(intensity, centroid=None):
    values = np.array(intensity, dtype=float)
    return RawScan("S1", "0", np.arange(len(values)), values, "here", centroid=centroid)


def reason(scan_filter, intensity, **kind):
    scan = scan_of(intensity, **kind)
    return scan_filter.reason(scan, scan.intensity)


def test_without_reasons_nothing_is_left_out():
    nothing = ScanFilter()
    assert reason(nothing, [0, 0]) is None
    assert not nothing.outlying(np.array([1.0, 1e9])).any()
    assert nothing.plain() == {}


def test_what_is_nothing_but_0_is_empty():
    chosen = ScanFilter(["empty"])
    assert reason(chosen, [0, 0]) == "empty"
    assert reason(chosen, []) == "empty"
    assert reason(chosen, [0, -1]) is None


def test_a_top_that_was_cut_off_is_saturation_and_a_peak_is_not():
    chosen = ScanFilter(["saturated"])
    assert reason(chosen, [1, 9, 9, 9, 2]) == "saturated"
    assert reason(chosen, [9, 9, 1, 9, 9]) is None
    assert reason(chosen, [5, 5, 5, 9, 1]) is None
    assert reason(chosen, [0, 0, 0, 0]) is None
    assert reason(chosen, [9, 9, 9], centroid=True) is None
    assert reason(chosen, []) is None


def test_a_ceiling_is_reached_by_one_point():
    chosen = ScanFilter(["saturated"], ceiling=100.0)
    assert reason(chosen, [1, 100, 3]) == "saturated"
    assert reason(chosen, [99, 99, 99]) is None


def test_an_outlying_ion_current_is_told_from_the_spread_of_the_others():
    tic = np.exp(np.random.default_rng(0).normal(0.0, 0.2, 200))
    tic[[3, 50, 120]] = [50.0, 0.01, 0.0]
    outlying = ScanFilter(["tic"]).outlying(tic)
    assert np.flatnonzero(outlying).tolist() == [3, 50, 120]
    assert not ScanFilter(["tic"], spread=5000.0).outlying(tic).any()


def test_ion_currents_that_are_all_but_alike_are_no_outliers():
    tic = np.ones(50)
    tic[:3] = [1.001, 0.97, 1.2]
    assert np.flatnonzero(ScanFilter(["tic"]).outlying(tic)).tolist() == [2]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"reasons": ["emtpy"]}, "did you mean 'empty'"),
        ({"ceiling": 5.0}, "needs the filter 'saturated'"),
        ({"reasons": REASONS, "spread": 0.0}, "above 0"),
        ({"reasons": REASONS, "spread": float("nan")}, "above 0"),
    ],
)
def test_settings_that_mean_nothing_are_refused(settings, message):
    with pytest.raises(CohortError) as caught:
        ScanFilter(**settings)
    assert message in str(caught.value)
