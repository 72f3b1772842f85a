"""What holds of every augmentation, whatever it does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from datasets.augmentations import AUGMENTATIONS, Mixup, PairAugmentation, make_augmentations
from datasets.batches import Sample
from datasets.errors import UsageError
from tests.datasets.augmentations.made_scans import rng, scans

INTENSITIES = st.floats(-1e9, 1e9, width=32)


def change(name: str, given_scans: np.ndarray, generator: np.random.Generator) -> Sample:
    """A sample with these scans, changed; where it takes a second one, always by the same."""
    (augment,) = make_augmentations([name])
    sample = Sample(given_scans, np.array([1.0, 2.0], np.float32), 1, "a")
    if isinstance(augment, PairAugmentation):
        other = scans(3, given_scans.shape[1]) + np.float32(2)
        return augment.mix(sample, Sample(other, np.zeros(2, np.float32), 1, "b"), generator)
    return sample._replace(spectra=augment(given_scans, generator))


@st.composite
def some_scans(draw: st.DrawFn) -> np.ndarray:
    shape = draw(st.tuples(st.integers(1, 5), st.integers(1, 40)))
    return draw(arrays(np.float32, shape, elements=INTENSITIES))


@pytest.mark.parametrize("name", AUGMENTATIONS)
@settings(max_examples=40)
@given(given_scans=some_scans(), seed=st.integers(0, 2**32))
def test_the_same_generator_makes_the_same_finite_scans(name, given_scans, seed):
    before = given_scans.copy()
    out, same = (change(name, given_scans, rng(seed)) for _ in range(2))
    np.testing.assert_array_equal(out.spectra, same.spectra)
    np.testing.assert_array_equal(out.tabular, same.tabular)
    assert 1 <= len(out.spectra) <= len(given_scans)
    assert out.spectra.shape[1] == given_scans.shape[1]
    assert out.spectra.dtype == out.tabular.dtype == np.float32
    assert out.spectra.flags.c_contiguous
    assert np.isfinite(out.spectra).all()
    assert (out.target, out.sample_id) == (1, "a")
    np.testing.assert_array_equal(given_scans, before)
    assert not np.shares_memory(out.spectra, given_scans)


@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_another_generator_makes_other_scans(name):
    first, *others = (change(name, scans(8), rng(seed)).spectra for seed in range(4))
    assert any(not np.array_equal(first, other) for other in others)


@pytest.mark.parametrize(
    ("name", "params", "said"),
    [
        ("noise", {"std": -1}, r"noise\.std: a number at least 0 was expected, not -1"),
        ("intensity", {"std": "x"}, r"intensity\.std: a number at least 0 was expected, not 'x'"),
        ("baseline_drift", {"size": -1}, r"baseline_drift\.size: a number at least 0"),
        ("baseline_drift", {"waves": 0}, r"baseline_drift\.waves: a whole number at least 1"),
        ("axis_shift", {"max_points": None}, r"axis_shift\.max_points: a number at least 0"),
        ("axis_warp", {"max_points": -2}, r"axis_warp\.max_points: a number at least 0"),
        ("axis_warp", {"waves": 1.5}, r"axis_warp\.waves: a whole number at least 1"),
        ("peak_dropout", {"p": 2}, r"peak_dropout\.p: a number between 0 and 1"),
        ("peak_dropout", {"width": 0}, r"peak_dropout\.width: a whole number at least 1"),
        ("peak_dropout", {"fill": "zeros"}, r"peak_dropout\.fill: .*; did you mean 'zero'\?"),
        ("scan_dropout", {"p": 1.5}, r"scan_dropout\.p: a number between 0 and 1"),
        ("scan_sampling", {"most": 0}, r"scan_sampling\.most: a whole number at least 1"),
        ("mixup", {"alpha": 0}, r"mixup\.alpha: a number at least 0\.001 was expected, not 0"),
        ("noise", {"sd": 1}, r"augmentation 'noise' has no parameter 'sd'; did you mean 'std'\?"),
        ("noisy", {}, r"unknown augmentation 'noisy'; did you mean 'noise'\?"),
    ],
)
def test_a_wrong_name_or_parameter_is_named(name, params, said):
    with pytest.raises(UsageError, match=said) as error:
        make_augmentations([{"name": name, "params": params}])
    assert "\n" not in str(error.value)


def test_a_mixed_sample_keeps_its_own_scans_target_and_name():
    ours = Sample(np.zeros((2, 3), np.float32), np.zeros(1, np.float32), 1, "a")
    other = Sample(np.ones((1, 3), np.float32), np.ones(1, np.float32), 1, "b")
    mixed = Mixup(alpha=1.0).mix(ours, other, rng())
    assert (mixed.spectra.shape, mixed.target, mixed.sample_id) == ((2, 3), 1, "a")
