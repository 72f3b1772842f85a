from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.readers.tof_calibration import tof_to_mz
from tests.datasets.readers.raw_files import mz_to_tof

MZ = np.geomspace(1.0, 30000.0, 200)


@given(
    ml1=st.floats(1e5, 1e8),
    ml2=st.floats(-1000.0, 1000.0),
    ml3=st.one_of(st.just(0.0), st.floats(1e-6, 0.05), st.floats(-0.05, -1e-6)),
)
def test_the_published_equation_is_solved(ml1, ml2, ml3):
    # Beyond its turning point the parabola's other root is no flight time.
    turning = np.inf if ml3 >= 0 else (np.sqrt(1e12 / ml1) / (-2 * ml3)) ** 2
    mz = MZ[turning * 0.9 > MZ]
    tof = mz_to_tof(mz, ml1, ml2, ml3)
    np.testing.assert_allclose(tof_to_mz(tof, ml1, ml2, ml3), mz, rtol=1e-6)


def test_a_vanishing_curvature_loses_no_digits():
    tof = mz_to_tof(MZ, 5.4e6, 417.0, 0.0)
    straight = tof_to_mz(tof, 5.4e6, 417.0, 0.0)
    np.testing.assert_allclose(tof_to_mz(tof, 5.4e6, 417.0, 1e-15), straight, rtol=1e-12)


def test_where_there_is_no_solution_there_is_no_mz():
    assert np.isnan(tof_to_mz(np.array([1e9]), 5.4e6, 417.0, -0.015)).all()
