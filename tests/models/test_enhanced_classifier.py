"""The head of several layers."""

from __future__ import annotations

import inspect

import pytest
import torch
from torch import nn

from models.enhanced_classifier import EnhancedClassifier


def test_the_hidden_layers_are_as_wide_as_asked_for() -> None:
    classifier = EnhancedClassifier(16, num_classes=3, hidden_dims=[12, 8])
    seen: list[int] = []
    for layer in classifier.layers:
        layer.register_forward_hook(lambda _, given, result: seen.append(result.shape[1]))
    assert classifier(torch.randn(5, 16)).shape == (5, 3)
    assert seen == [12, 8]


def test_the_usual_layers_are_shared_by_no_two_classifiers() -> None:
    default = inspect.signature(EnhancedClassifier).parameters["hidden_dims"].default
    assert default == (512, 256, 128)  # a tuple: nobody can change it for others


def test_without_hidden_layers_it_is_linear() -> None:
    classifier = EnhancedClassifier(4, hidden_dims=[])
    vectors = torch.randn(3, 4)
    torch.testing.assert_close(
        classifier(vectors), vectors @ classifier.head.weight.T + classifier.head.bias
    )


@pytest.mark.parametrize("use_residual", [True, False])
def test_the_residual_path_goes_round_a_silenced_layer(use_residual: bool) -> None:
    classifier = EnhancedClassifier(6, hidden_dims=[6], use_residual=use_residual).eval()
    body = classifier.layers[0].get_submodule("body")
    for parameter in body.parameters():
        nn.init.zeros_(parameter)
    vectors = torch.randn(3, 6)
    passed = vectors if use_residual else torch.zeros(3, 6)
    torch.testing.assert_close(classifier(vectors), classifier.head(passed))


@pytest.mark.parametrize("use_layer_norm", [True, False])
def test_layer_norm_makes_a_plain_layer_deaf_to_scale(use_layer_norm: bool) -> None:
    torch.manual_seed(0)
    classifier = EnhancedClassifier(
        6, hidden_dims=[8], use_residual=False, use_layer_norm=use_layer_norm
    ).eval()
    vectors = 100 * torch.randn(3, 6)
    same = torch.allclose(classifier(vectors), classifier(10 * vectors), atol=0.05)
    assert same == use_layer_norm


@pytest.mark.parametrize("use_residual", [True, False])
@pytest.mark.parametrize("use_layer_norm", [True, False])
def test_gradients_reach_every_parameter(use_residual: bool, use_layer_norm: bool) -> None:
    torch.manual_seed(0)
    classifier = EnhancedClassifier(
        6, 1, [8, 8, 4], 0.0, use_residual=use_residual, use_layer_norm=use_layer_norm
    )
    classifier(torch.randn(5, 6)).square().sum().backward()
    without = [n for n, p in classifier.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_a_layer_without_features_is_refused_by_its_place() -> None:
    with pytest.raises(ValueError, match=r"^hidden_dims\[1\] must be at least 1, got 0$"):
        EnhancedClassifier(6, hidden_dims=[8, 0])
