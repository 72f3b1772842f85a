from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from engine.metrics.ranking import area_under_roc, average_precision


@given(st.lists(st.tuples(st.integers(0, 6), st.booleans()), min_size=2, max_size=40))
def test_the_areas_are_scikit_learns_whatever_is_tied(samples):
    scores = np.array([score for score, _ in samples]) / 6
    positive = np.array([is_positive for _, is_positive in samples])
    positive[:2] = True, False  # both must occur
    given_ = torch.from_numpy(scores), torch.from_numpy(positive)
    assert area_under_roc(*given_) == pytest.approx(roc_auc_score(positive, scores))
    assert average_precision(*given_) == pytest.approx(average_precision_score(positive, scores))


def test_a_column_of_a_matrix_is_ranked_as_a_copy_of_it_is():
    scores, positive = torch.rand(50, 3), torch.arange(50) % 3 == 0
    for area in (area_under_roc, average_precision):
        assert area(scores[:, 1], positive) == area(scores[:, 1].clone(), positive)
