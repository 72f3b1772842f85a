from __future__ import annotations

import numpy as np

from datasets.transforms import Log1p, Sqrt, make_transforms


def test_root_and_logarithm_take_negative_intensities_as_zero():
    scan = np.array([[-4.0, 0.0, 9.0]], dtype=np.float32)
    np.testing.assert_allclose(Sqrt()(scan), [[0, 0, 3]])
    np.testing.assert_allclose(Log1p()(scan), [[0, 0, np.log(10)]], rtol=1e-6)


def test_log_is_another_name_for_log1p_and_saved_as_that():
    assert make_transforms(["log"]).state_dict()["names"] == ["log1p"]
    make_transforms(["log"]).load_state_dict(make_transforms(["log1p"]).state_dict())


def test_the_root_evens_out_the_variance_of_counts():
    counts = np.random.default_rng(0).poisson([[20.0], [2000.0]], (2, 20000)).astype(np.float32)
    np.testing.assert_allclose(Sqrt()(counts).std(axis=1), 0.5, rtol=0.03)
