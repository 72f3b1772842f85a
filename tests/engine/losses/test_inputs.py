from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.utils.class_weight import compute_class_weight

from datasets.errors import UsageError
from engine.losses.inputs import (
    aligned,
    balanced_alpha,
    balanced_class_weights,
    balanced_pos_weight,
    fill_balanced,
    find_output,
    has_output,
    weights_or_none,
)

OUTPUTS = {"logits": torch.zeros(2, 3), "attention_weights": {"scan_pooling": torch.ones(2, 4)}}


def test_an_output_is_found_by_its_name_or_its_path():
    assert find_output(OUTPUTS, "logits") is OUTPUTS["logits"]
    path = "attention_weights.scan_pooling"
    assert find_output(OUTPUTS, path).shape == (2, 4)
    assert has_output(OUTPUTS, path)
    assert not has_output(OUTPUTS, "logits.more")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("logit", "no 'logit' for the loss; did you mean 'logits'"),
        ("attention_weights.scan", r"no 'attention_weights.scan' .*\(choices: scan_pooling\)"),
        ("attention_weights", "cannot be taken of 'attention_weights': it is a dict"),
    ],
)
def test_an_output_that_is_not_there_is_named_with_the_nearest(name, message):
    with pytest.raises(UsageError, match=message):
        find_output(OUTPUTS, name)


def test_none_is_an_output_that_is_not_there():
    outputs = {"logits": torch.zeros(1, 2), "embedding": None}
    assert not has_output(outputs, "embedding")
    with pytest.raises(UsageError, match="returns no 'embedding'"):
        find_output(outputs, "embedding")


def test_values_are_never_broadcast_against_each_other():
    aligned({"logits": torch.zeros(4, 1)}, torch.zeros(4, 1))
    with pytest.raises(UsageError, match=r"logits have shape \[4, 1\], targets \[4\]"):
        aligned({"logits": torch.zeros(4, 1)}, torch.zeros(4))


@pytest.mark.parametrize("weights", ["balancd", [1.0, -1.0], [0.0, 0.0], [float("nan")], {"a": 1}])
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(ValueError, match="alpha must be numbers from 0") as error:
        weights_or_none("alpha", weights)
    assert "\n" not in str(error.value)


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


def test_an_output_is_found_by_its_path():
    assert find_output({"a": {"b": torch.tensor(1.0)}}, "a.b") == 1


def test_balanced_figures_are_as_computed_by_hand():
    assert balanced_class_weights(torch.tensor([0, 0, 0, 1]), 2) == pytest.approx([2 / 3, 2])
    assert balanced_alpha(torch.tensor([[1.0], [0.0], [0.0], [0.0]]), 1) == [0.75]
    filled = fill_balanced({"class_weights": "balanced", "gamma": 2}, torch.tensor([0, 1]), 2)
    assert filled == {"class_weights": [1.0, 1.0], "gamma": 2}
