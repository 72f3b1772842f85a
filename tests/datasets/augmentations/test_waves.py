from __future__ import annotations

import numpy as np
import pytest

from datasets.augmentations.waves import random_waves
from tests.datasets.augmentations.made_scans import rng


@pytest.mark.parametrize("waves", [1, 4])
def test_curves_are_smooth_and_of_unit_size_on_average(waves):
    curves = random_waves(2000, 200, waves, rng())
    assert curves.shape == (2000, 200)
    assert np.square(curves).mean() == pytest.approx(1, rel=0.1)
    assert np.abs(np.diff(curves)).max() < 0.15 * waves
    np.testing.assert_allclose(curves.mean(axis=0), 0, atol=0.15)


def test_a_curve_does_not_depend_on_how_many_are_drawn_after_it():
    np.testing.assert_array_equal(
        random_waves(1, 333, 4, rng())[0], random_waves(5, 333, 4, rng())[0]
    )
