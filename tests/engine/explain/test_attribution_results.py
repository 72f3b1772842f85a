from __future__ import annotations

import pytest
import torch

from datasets.errors import UsageError
from engine.explain.attribution import mean_importance
from engine.explain.attribution_results import Explained, importance_of
from engine.explain.attribution_samples import explain
from tests.engine.attributed import SCANS, Weighted, make_batch


def made(scans, tabular, gap=None):
    count = len(scans)
    names = [f"s{number}" for number in range(count)]
    target = torch.zeros(count).long()
    return Explained("integrated_gradients", names, target, scans, tabular, None, gap)


def test_importance_is_told_by_point_by_covariate_and_by_scan():
    scans = [torch.tensor([[1.0, -2.0], [3.0, 0.0]]), torch.tensor([[-1.0, 4.0]])]
    gap = torch.tensor([0.1, -0.3])
    found = importance_of(made(scans, torch.tensor([[1.0], [-2.0]]), gap))
    assert found.points.tolist() == [2.5, 3.0]
    assert found.signed_points.tolist() == [1.5, 1.0]
    assert found.covariates.tolist() == [1.5]
    assert found.signed_covariates.tolist() == [-0.5]
    # Only one of the two samples has a second scan.
    assert found.scans.tolist() == [4.0, 3.0]
    assert found.signed_scans.tolist() == [1.0, 3.0]
    assert found.samples == 2
    assert found.gap == pytest.approx(0.2)


def test_it_is_the_same_from_samples_that_were_kept_and_from_a_loader():
    model, loader = Weighted(), [make_batch(1), make_batch(2)]
    kept = importance_of(explain(model, loader, 1, score="logit"))
    passing = mean_importance(model, loader, 1)
    for name, value in vars(passing).items():
        other = getattr(kept, name)
        if isinstance(value, torch.Tensor):
            torch.testing.assert_close(value, other, atol=1e-6, rtol=1e-5)
        else:
            assert value == pytest.approx(other)
    assert passing.samples == 2 * len(SCANS)


def test_without_covariates_and_without_a_gap_there_are_none():
    found = importance_of(made([torch.ones(1, 3)], torch.zeros(1, 0)))
    assert found.covariates.shape == (0,)
    assert found.gap is None


def test_no_samples_are_refused_in_a_line():
    with pytest.raises(UsageError, match="no sample to explain"):
        importance_of(made([], torch.zeros(0, 2)))
