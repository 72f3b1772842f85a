from __future__ import annotations

import pytest
import torch
from torch import nn

from experiments.enhanced_trainer.model_summary import OWN, summarise_model
from models import TFTMultimodal


def test_counts_and_size_agree_with_torchs_own():
    model = TFTMultimodal(tab_dim=4, spec_len=48, patch_size=16)
    for parameter in model.head.parameters():
        parameter.requires_grad_(False)
    model.register_buffer("kept", torch.zeros(10, dtype=torch.float64))
    summary = summarise_model(model)
    parameters = sum(p.numel() for p in model.parameters())
    assert summary["parameters"] == parameters
    frozen = sum(p.numel() for p in model.head.parameters())
    assert summary["trainable"] == parameters - frozen
    own = {name for name, _ in model.named_buffers()}
    held = [*model.parameters(), *(dict(model.named_buffers())[name] for name in own)]
    assert summary["size_mb"] == pytest.approx(
        sum(t.element_size() * t.nelement() for t in held) / 1e6
    )
    for name, module in model.named_children():
        expected = sum(p.numel() for p in module.parameters())
        assert summary["modules"].get(name, {"parameters": 0})["parameters"] == expected
    assert summary["modules"]["head"]["trainable"] == 0
    assert summary["model"] == "TFTMultimodal"


def test_shared_and_own_parameters_are_counted_once():
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 3)
            self.second = nn.Linear(3, 3)
            self.second.weight = self.first.weight
            self.scale = nn.Parameter(torch.ones(1))

    summary = summarise_model(Tied())
    assert summary["parameters"] == sum(p.numel() for p in Tied().parameters()) == 9 + 3 + 3 + 1
    assert summary["modules"]["second"]["parameters"] == 3
    assert summary["modules"][OWN]["parameters"] == 1
