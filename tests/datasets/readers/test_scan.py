from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import CohortError
from datasets.readers import RawScan


def test_arrays_become_float64_and_ties_on_the_axis_are_allowed():
    scan = RawScan("S", "0", np.array([1, 1, 2], np.float32), np.array([1, 2, 3]), "here")
    assert scan.mz.dtype == scan.intensity.dtype == np.float64
    assert scan.points == 3


@pytest.mark.parametrize(
    ("mz", "intensity", "message"),
    [
        ([1.0, 2.0], [1.0], "here: 2 points of the axis, but 1 intensities"),
        ([1.0, np.nan], [1.0, 1.0], "here: axis nan at point 1; finite was expected"),
        ([1.0, 2.0], [-np.inf, 1.0], "here: intensity -inf at point 0"),
        ([1.0, 3.0, 2.0], [1.0] * 3, "here: the axis falls, point 2 is 2 after 3"),
        ([[1.0]], [[1.0]], "here"),
    ],
)
def test_what_is_no_scan_is_refused(mz, intensity, message):
    with pytest.raises(CohortError) as caught:
        RawScan("S", "0", np.array(mz), np.array(intensity), "here")
    assert message in str(caught.value)
