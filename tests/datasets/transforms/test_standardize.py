from __future__ import annotations

import numpy as np
import pytest

from datasets.errors import UsageError
from datasets.transforms import Standardize
from tests.datasets.transforms.made_spectra import spectra


@pytest.mark.parametrize("sizes", [[200], [1, 199], [50, 0, 50, 100], [1] * 200])
def test_standardize_learns_the_same_from_any_chunks(sizes):
    scans = spectra() + np.float32(1e4)
    chunks = np.split(scans, np.cumsum(sizes)[:-1])
    transform = Standardize().fit(chunks)
    assert transform.mean is not None
    assert transform.std is not None
    np.testing.assert_allclose(transform.mean, scans.mean(axis=0, dtype=np.float64), rtol=1e-6)
    np.testing.assert_allclose(transform.std, scans.std(axis=0, dtype=np.float64), rtol=1e-5)
    out = transform(scans)
    np.testing.assert_allclose(out.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(out.std(axis=0), 1, rtol=1e-4)


def test_a_point_that_was_constant_in_training_does_not_blow_up():
    scans = spectra()
    scans[:, 3] = 0
    transform = Standardize(min_std=0.1).fit([scans])
    assert transform.std is not None
    typical = np.sqrt(np.mean(scans.var(axis=0)))
    np.testing.assert_allclose(transform.std[3], 0.1 * typical, rtol=1e-4)
    new = np.full((1, 30), typical, dtype=np.float32)
    assert abs(transform(new)[0, 3]) < 10.001


def test_one_training_scan_standardises_to_zero():
    scans = spectra(1)
    assert not Standardize().fit([scans])(scans).any()


def test_standardize_says_what_is_wrong():
    with pytest.raises(UsageError, match="no training scan"):
        Standardize().fit([])
    with pytest.raises(RuntimeError, match="before fit"):
        Standardize()(spectra())
    with pytest.raises(UsageError, match="spectra of 30 points; these have 31"):
        Standardize().fit([spectra()])(spectra(points=31))
    with pytest.raises(UsageError, match=r"standardize\.min_std"):
        Standardize(min_std=-1)
