from __future__ import annotations

import io

import pytest
import torch

from engine.checkpointing.snapshot import Snapshot
from tests.tiny_problem import TinyLoader, TinyModel


def tensors(model, optimizer):
    memory = optimizer.state_dict()["state"]
    kept = [*model.state_dict().values(), *(t for m in memory.values() for t in m.values())]
    return [tensor.clone() for tensor in kept]


def step(model, optimizer):
    batch = TinyLoader().batches[0]
    model(batch.spectra, batch.mask, batch.tabular)["logits"].square().sum().backward()
    optimizer.step()
    optimizer.zero_grad()


@pytest.fixture(params=[True, False])
def trained(request):
    torch.manual_seed(0)
    model = TinyModel()
    optimizer = torch.optim.AdamW(model.parameters(), 0.1, fused=request.param)
    step(model, optimizer)
    return model, optimizer


def assert_equal(one, other):
    assert len(one) == len(other)
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_weights_buffers_and_momenta_come_back_and_again(trained):
    model, optimizer = trained
    snapshot, before = Snapshot(model, optimizer), tensors(model, optimizer)
    assert snapshot.take()
    for _ in range(2):
        step(model, optimizer)
        assert not torch.equal(tensors(model, optimizer)[0], before[0])
        snapshot.restore()
        assert_equal(tensors(model, optimizer), before)


def test_an_optimizer_without_memory_has_none_again():
    model = TinyModel()
    optimizer = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    step(model, optimizer)
    snapshot.restore()
    assert not optimizer.state_dict()["state"]


def test_the_groups_keep_their_present_settings(trained):
    model, optimizer = trained
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    optimizer.param_groups[0]["lr"] = 0.025
    snapshot.restore()
    assert optimizer.param_groups[0]["lr"] == 0.025


@pytest.mark.parametrize("place", ["weight", "momentum", "buffer"])
def test_a_broken_state_is_not_taken_and_the_earlier_stays(trained, place):
    model, optimizer = trained
    snapshot, before = Snapshot(model, optimizer), tensors(model, optimizer)
    snapshot.take()
    broken = {
        "weight": model.head.weight,
        "momentum": optimizer.state[model.head.weight]["exp_avg"],
        "buffer": model.body[1].running_var,
    }[place]
    with torch.no_grad():
        broken.view(-1)[0] = float("nan")
    assert not snapshot.take()
    snapshot.restore()
    assert_equal(tensors(model, optimizer), before)


def test_parameters_outside_of_the_model_are_kept_too():
    outside = torch.nn.Parameter(torch.tensor(1.0))
    optimizer = torch.optim.SGD([outside], 0.1)
    snapshot = Snapshot(torch.nn.Linear(1, 1), optimizer)
    snapshot.take()
    with torch.no_grad():
        outside.fill_(5.0)
    snapshot.restore()
    assert outside.item() == 1.0


def test_a_saved_copy_serves_in_another_process(trained):
    model, optimizer = trained
    snapshot, before = Snapshot(model, optimizer), tensors(model, optimizer)
    snapshot.take()
    file = io.BytesIO()
    torch.save(snapshot.state_dict(), file)
    file.seek(0)
    other = TinyModel()
    other_optimizer = torch.optim.AdamW(other.parameters(), 0.1, fused=True)
    restored = Snapshot(other, other_optimizer)
    restored.load_state_dict(torch.load(file, weights_only=True))
    restored.restore()
    assert_equal(tensors(other, other_optimizer), before)


def test_the_copy_of_another_model_is_refused(trained):
    model, optimizer = trained
    snapshot = Snapshot(model, optimizer)
    snapshot.take()
    other = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="another model's"):
        Snapshot(other, torch.optim.SGD(other.parameters(), 0.1)).load_state_dict(
            snapshot.state_dict()
        )
