from __future__ import annotations

import numpy as np
import pytest
import torch

from datasets.cohort.target_scaler import TargetScaler

VALUES = np.random.default_rng(0).normal([20, -3e4], [5, 7], size=(50, 2))


def test_standardised_values_have_mean_0_and_deviation_1_and_come_back():
    scaler = TargetScaler().fit(VALUES)
    standardised = scaler.standardize(VALUES)
    assert standardised.dtype == np.float32
    assert standardised.mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert standardised.std(0) == pytest.approx([1, 1], abs=1e-5)
    restored = scaler.restore(torch.from_numpy(standardised))
    np.testing.assert_allclose(restored.numpy(), VALUES, rtol=1e-6)


def test_other_values_are_mapped_as_those_it_was_fitted_on():
    scaler = TargetScaler().fit(np.array([[0.0], [10.0]]))
    assert scaler.standardize(np.array([[20.0]])).tolist() == [[3.0]]


def test_a_target_that_does_not_vary_is_shifted_only():
    scaler = TargetScaler().fit(np.full((4, 1), 7.0))
    assert scaler.standardize(np.array([[7.0], [8.0]])).tolist() == [[0.0], [1.0]]


def test_a_state_is_plain_and_gives_the_same_map():
    scaler, other = TargetScaler().fit(VALUES), TargetScaler()
    state = scaler.state_dict()
    assert all(isinstance(value, float) for values in state.values() for value in values)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.standardize(VALUES), scaler.standardize(VALUES))


def test_unfitted_it_does_nothing():
    with pytest.raises(RuntimeError, match="fit or load_state_dict comes first"):
        TargetScaler().standardize(VALUES)
