from __future__ import annotations

import io

import pytest
import torch

from engine.checkpointing.finite_check import FiniteCheck, Snapshot
from tests.tiny_problem import TinyLoader, TinyModel


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = TinyModel()
    for parameter in model.parameters():
        parameter.grad = torch.randn_like(parameter)
    return model


@pytest.fixture
def check(model):
    check = FiniteCheck(model, torch.optim.SGD(model.parameters(), 0.1), torch.device("cpu"))
    check.start_epoch()
    return check


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@pytest.mark.parametrize("name", ["body.0.weight", "head.bias"])
def test_one_bad_element_of_any_gradient_is_found(model, check, name, value):
    check.keep_loss(torch.tensor(1.0))
    assert check.verdict().item() == 0
    dict(model.named_parameters())[name].grad.view(-1)[-1] = value
    check.keep_loss(torch.tensor(1.0))
    assert check.verdict().item() == 1
    assert check.loss_verdict().item() == 0
    assert check.broken_gradient() == name


def test_huge_gradients_whose_norm_overflows_are_finite(model, check):
    model.head.weight.grad.fill_(1e30)
    check.keep_loss(torch.tensor(1.0))
    assert check.verdict().item() == 0


def test_gradients_and_losses_are_left_as_they_are(model, check):
    before = [p.grad.clone() for p in model.parameters()]
    loss = torch.tensor(0.3)
    check.keep_loss(loss)
    check.verdict()
    assert all(torch.equal(a, p.grad) for a, p in zip(before, model.parameters(), strict=True))
    assert loss.item() == torch.tensor(0.3).item()


def test_a_bad_micro_batch_counts_for_its_step_only(model, check):
    for loss in (1.0, float("nan"), 2.0):
        check.keep_loss(torch.tensor(loss))
    assert check.verdict().item() == 1
    assert check.loss_verdict().item() == 1
    check.keep_loss(torch.tensor(1.0))
    assert check.verdict().item() == 0


def test_a_window_that_was_cut_short_is_forgotten(check):
    check.keep_loss(torch.tensor(float("nan")))
    check.start_epoch()
    check.keep_loss(torch.tensor(1.0))
    assert check.verdict().item() == 0


def test_a_bad_loss_makes_a_gradient_nan_on_request(model, check):
    before = [p.grad.clone() for p in model.parameters()]
    check.keep_loss(torch.tensor(2.0), show=True)
    assert all(torch.equal(a, p.grad) for a, p in zip(before, model.parameters(), strict=True))
    check.keep_loss(torch.tensor(float("inf")), show=True)
    assert any(p.grad.isnan().any() for p in model.parameters())


def test_gradients_may_be_missing_or_of_several_types(model):
    double = torch.nn.Parameter(torch.ones(2, dtype=torch.float64))
    double.grad = torch.ones(2, dtype=torch.float64)
    model.head.weight.grad = None
    optimizer = torch.optim.SGD([*model.parameters(), double], 0.1)
    check = FiniteCheck(model, optimizer, torch.device("cpu"))
    check.start_epoch()
    check.keep_loss(torch.tensor(1.0))
    assert check.verdict().item() == 0
    double.grad[0] = float("nan")
    assert check.verdict().item() == 1
    assert check.broken_gradient() == "a parameter outside the model"


@pytest.mark.parametrize("where", [None, torch.tensor(1.0), torch.tensor(0.0)])
def test_buffers_go_back_to_the_windows_first_micro_batch(model, check, where):
    before = {name: b.clone() for name, b in model.named_buffers()}
    for batch in TinyLoader().batches[:2]:
        check.keep_buffers()
        model(batch.spectra, batch.mask, batch.tabular)
        check.keep_loss(torch.tensor(1.0))
    check.put_buffers_back(where)
    back = all(torch.equal(b, before[name]) for name, b in model.named_buffers())
    assert back == (where is None or where.item() == 1)


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
