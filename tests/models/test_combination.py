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
from models.combination import FOLDS, LEFT_OUT, PARTS, leave_out
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


def test_a_member_learns_nothing_from_the_fold_that_it_leaves_out(batch: SmallBatch) -> None:
    """As if the loss's mean were of the other samples, by their share."""
    fold = torch.arange(len(batch.target)) % FOLDS
    members = Members([small_model("pca_mlp", seed=n, dropout=0.0) for n in range(6)])
    alone = [small_model("pca_mlp", seed=n, dropout=0.0) for n in range(6)]
    losses = call_loss(CrossEntropy(), members.train()(*batch.inputs, fold=fold), batch.target)
    losses["total_loss"].backward()
    for number, (member, net) in enumerate(zip(members.networks, alone, strict=True)):
        kept = fold != number % FOLDS
        inputs = [part[kept] for part in batch.inputs]
        loss = CrossEntropy()(net.train()(*inputs), batch.target[kept])["total_loss"]
        (kept.float().mean() * loss).backward()
        for together, single in zip(member.parameters(), net.parameters(), strict=True):
            torch.testing.assert_close(6 * together.grad, single.grad, atol=1e-6, rtol=1e-4)


def test_left_out_logits_are_of_the_members_that_left_the_sample_out(batch: SmallBatch) -> None:
    networks: list[Any] = [small_model("pca_mlp", seed=n, dropout=0.0) for n in range(7)]
    for network in networks:
        torch.nn.init.normal_(network.spectra.head[-1].weight)  # which starts at zero
    members = Members(networks).eval()
    each = [network.eval()(*batch.inputs)["logits"] for network in members.networks]
    fold = torch.full_like(batch.target, -1)
    fold[:3] = torch.tensor([0, 1, 4])
    found = members(*batch.inputs, fold=fold)[LEFT_OUT]
    torch.testing.assert_close(found[0], (each[0][0] + each[5][0]) / 2)
    torch.testing.assert_close(found[1], (each[1][1] + each[6][1]) / 2)
    torch.testing.assert_close(found[2], each[4][2])
    torch.testing.assert_close(found[3:], members(*batch.inputs)["logits"][3:])
    assert LEFT_OUT not in members(*batch.inputs)


def test_few_members_cannot_leave_out_each_fold() -> None:
    def several(count: int) -> Members:
        return Members([small_model("mean_linear", seed=n) for n in range(count)])

    assert leave_out([several(FOLDS), several(8)])
    assert not leave_out([several(FOLDS), several(FOLDS - 1)])
    assert not leave_out([several(FOLDS), small_model("mean_linear")])
