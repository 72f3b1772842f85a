"""Members: averages, and a loss for each."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from engine.losses import CrossEntropy
from engine.metrics import showing_attention
from engine.model_call import call_loss
from models import Members
from models.combination import PARTS
from tests.models.small_batch import SmallBatch, small_model


def pair(name: str, **changes: Any) -> list[nn.Module]:
    return [small_model(name, seed=seed, dropout=0.0, **changes) for seed in (1, 2)]


def test_logits_are_averaged_and_embeddings_joined(batch: SmallBatch) -> None:
    first, second = (each.eval()(*batch.inputs) for each in pair("tft"))
    both = Members(pair("tft")).eval()(*batch.inputs)
    assert not torch.equal(first["logits"], second["logits"])
    for name in ("logits", "aux_logits_spec", "aux_logits_tab"):
        torch.testing.assert_close(both[name], (first[name] + second[name]) / 2)
    for name in ("embedding", "spec_embedding", "tab_embedding"):
        assert torch.equal(both[name], torch.cat([first[name], second[name]], dim=1))
    weights = [each["attention_weights"]["scan_pooling"] for each in (first, second)]
    torch.testing.assert_close(both["attention_weights"]["scan_pooling"], sum(weights) / 2)
    assert PARTS not in both


@pytest.mark.parametrize("name", ["tft", "pca_mlp"])
def test_each_member_learns_as_if_alone(name: str, batch: SmallBatch) -> None:
    """The mean of the losses, so the gradient of each is its own by the number of members."""
    members = Members(pair(name)).train()
    torch.manual_seed(0)
    losses = call_loss(CrossEntropy(), members(*batch.inputs), batch.target)
    losses["total_loss"].backward()
    alone = pair(name)
    torch.manual_seed(0)
    apart = [CrossEntropy()(net.train()(*batch.inputs), batch.target) for net in alone]
    for loss in apart:
        loss["total_loss"].backward()
    torch.testing.assert_close(losses["total_loss"], sum(a["total_loss"] for a in apart) / 2)
    for member, net in zip(members.networks, alone, strict=True):
        for together, single in zip(member.parameters(), net.parameters(), strict=True):
            if single.grad is not None:
                torch.testing.assert_close(2 * together.grad, single.grad, atol=1e-6, rtol=1e-4)


def test_rows_of_scans_reach_those_that_take_them(batch: SmallBatch) -> None:
    rows = batch.mask.flatten().nonzero().squeeze(1)
    for name in ("tft", "tabular_only"):
        members = Members(pair(name)).eval()
        known = members(*batch.inputs, scan_rows=rows)["logits"]
        torch.testing.assert_close(known, members(*batch.inputs)["logits"])
    with pytest.raises(IndexError):  # rows that do not exist: they are used
        Members(pair("tft"))(*batch.inputs, scan_rows=rows + 10**6)


def test_attention_is_shown_by_all(batch: SmallBatch) -> None:
    members = Members(pair("tft")).eval()
    fast = set(members(*batch.inputs)["attention_weights"])
    with showing_attention(members):
        assert fast < set(members(*batch.inputs)["attention_weights"])
    assert set(members(*batch.inputs)["attention_weights"]) == fast
