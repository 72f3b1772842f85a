from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from engine.losses.class_balance import (
    balanced_alpha,
    balanced_class_weights,
    balanced_pos_weight,
    fill_balanced,
)

LABELS = torch.tensor([[1.0, 0.0]] * 2 + [[0.0, 0.0]] * 6)


def test_balanced_weights_are_scikit_learns():
    target = torch.tensor([0] * 7 + [1] * 2 + [2])
    expected = compute_class_weight("balanced", classes=np.arange(3), y=target.numpy())
    assert balanced_class_weights(target, 3) == pytest.approx(expected)


def test_weighed_positives_say_as_much_as_negatives():
    assert balanced_pos_weight(LABELS)[0] == 3.0  # 2 with it, 6 without
    alpha = balanced_alpha(LABELS, 2)[0]
    assert alpha * 2 == pytest.approx((1 - alpha) * 6)


def test_a_label_that_never_occurs_has_a_finite_weight():
    assert np.isfinite(balanced_pos_weight(LABELS)).all()


def test_only_what_says_balanced_is_filled_in():
    classes = torch.tensor([0, 0, 0, 1])
    params = {"class_weights": "balanced", "alpha": [1, 2], "label_smoothing": 0.1}
    filled = fill_balanced(params, classes, 2)
    assert filled == {**params, "class_weights": balanced_class_weights(classes, 2)}
    assert params["class_weights"] == "balanced"
    assert fill_balanced({"alpha": "balanced"}, classes, 2)["alpha"] == pytest.approx([2 / 3, 2])
    assert fill_balanced({"pos_weight": "balanced"}, LABELS, 2)["pos_weight"][0] == 3.0
