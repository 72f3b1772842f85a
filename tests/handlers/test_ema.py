from __future__ import annotations

import io
import sys

import pytest
import torch
from ignite.engine import Events

from engine import TrainEvents, UsageError
from handlers.ema import EMA


def parameters(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def buffers(trainer):
    return {name: b.clone() for name, b in trainer.model.named_buffers()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def through_a_file(state):
    file = io.BytesIO()
    torch.save(state, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.fixture
def trained(make_trainer, loader):
    trainer, ema = make_trainer(), EMA(decay=0.9)
    ema.attach(trainer)
    torch.manual_seed(1)
    trainer.fit(loader, 2)
    return trainer, ema


def test_the_average_is_the_formulas(make_trainer, loader):
    trainer, ema = make_trainer(), EMA(decay=0.5, warmup=False)
    ema.attach(trainer)
    by_hand = parameters(trainer)

    @trainer.on(TrainEvents.OPTIMIZER_STEPPED)
    def follow(trainer):
        for name, value in parameters(trainer).items():
            by_hand[name] = 0.5 * by_hand[name] + 0.5 * value

    trainer.fit(loader, 2)
    for name, average in ema.state_dict()["average"].items():
        torch.testing.assert_close(average, by_hand[name])


def test_decay_warmup_soon_forgets_the_first_weights():
    ema = EMA(decay=0.999)
    assert [ema.decay_at(n) for n in (0, 1, 90)] == [1 / 10, 2 / 11, 91 / 100]
    assert ema.decay_at(10**6) == 0.999
    assert EMA(decay=0.999, warmup=False).decay_at(0) == 0.999


def test_one_update_goes_with_each_optimizer_step(trained, loader):
    trainer, ema = trained
    assert ema.updates == trainer.state.optimizer_step == 2 * len(loader)


def test_training_itself_is_not_changed(trained, make_trainer, loader):
    trainer, _ = trained
    plain = make_trainer()
    torch.manual_seed(1)
    plain.fit(loader, 2)
    assert_equal(parameters(trainer), parameters(plain))


def test_the_context_holds_the_average_and_restores_the_weights(trained):
    trainer, ema = trained
    live, average = parameters(trainer), ema.state_dict()["average"]
    average = {name: value.clone() for name, value in average.items()}
    with ema.averaged_weights():
        assert_equal(parameters(trainer), average)
        assert not torch.equal(trainer.model.head.weight, live["head.weight"])
    assert_equal(parameters(trainer), live)
    assert_equal(ema.state_dict()["average"], average)


def test_the_live_weights_come_back_after_an_exception(trained):
    trainer, ema = trained
    live, before = parameters(trainer), buffers(trainer)
    with pytest.raises(KeyboardInterrupt), ema.averaged_weights():
        raise KeyboardInterrupt
    assert_equal(parameters(trainer), live)
    assert_equal(buffers(trainer), before)
    with ema.averaged_weights():  # and the next time works
        pass


def test_a_failed_exchange_restores_the_live_weights(trained, monkeypatch):
    module = sys.modules["engine.eval_mode"]
    trainer, ema = trained
    live, exchange, calls = parameters(trainer), module._exchange, []

    def fails_at_the_third(one, other):
        calls.append(one)
        if len(calls) == 3:
            raise MemoryError
        exchange(one, other)

    monkeypatch.setattr(module, "_exchange", fails_at_the_third)
    with pytest.raises(MemoryError), ema.averaged_weights():
        pytest.fail("the context must not open")
    assert_equal(parameters(trainer), live)


def test_nesting_is_refused_and_harms_nothing(trained):
    trainer, ema = trained
    live = parameters(trainer)
    with ema.averaged_weights():
        with pytest.raises(RuntimeError, match="in place already"), ema.averaged_weights():
            pass
        assert not torch.equal(trainer.model.head.weight, live["head.weight"])
    assert_equal(parameters(trainer), live)


def test_buffers_are_those_of_training_and_come_back_as_they_were(trained, loader):
    trainer, ema = trained
    before = buffers(trainer)
    assert before["body.1.num_batches_tracked"].dtype == torch.int64
    trainer.model.train()
    batch = next(iter(loader))
    with ema.averaged_weights():
        assert_equal(buffers(trainer), before)
        trainer.model(batch.spectra, batch.mask, batch.tabular)  # in training mode: they move
        assert not torch.equal(trainer.model.body[1].running_mean, before["body.1.running_mean"])
    assert_equal(buffers(trainer), before)
    assert trainer.model.training


def test_the_optimizer_keeps_sight_of_its_weights(trained, loader):
    trainer, ema = trained
    addresses = [p.data_ptr() for p in trainer.model.parameters()]
    with ema.averaged_weights():
        assert [p.data_ptr() for p in trainer.model.parameters()] == addresses
    before = parameters(trainer)
    trainer.fit(loader, 3)
    assert not torch.equal(trainer.model.head.weight, before["head.weight"])


def test_averaging_starts_at_the_weights_that_training_starts_at(make_trainer, loader):
    trainer, ema = make_trainer(), EMA(decay=0.5, warmup=False)
    ema.attach(trainer)
    with torch.no_grad():  # weights that are loaded after the handlers are attached
        for parameter in trainer.model.parameters():
            parameter.fill_(3.0)
    with ema.averaged_weights():
        assert trainer.model.head.bias[0].item() == 3.0
    seen = []
    trainer.add_event_handler(
        Events.ITERATION_STARTED(once=1),
        lambda: seen.append(float(ema._average["body.0.weight"].max())),
    )
    trainer.fit(loader, 1)
    assert seen == [3.0]


def test_a_restored_average_continues_bit_for_bit(make_trainer, loader):
    whole, ema = make_trainer(), EMA(decay=0.9)
    ema.attach(whole)
    states = {}

    @whole.on(Events.EPOCH_COMPLETED(once=1))
    def save(trainer):
        states.update(through_a_file(trainer.capture()))

    torch.manual_seed(1)
    whole.fit(loader, 3)

    continued, restored = make_trainer(seed=9), EMA(decay=0.9)
    restored.attach(continued)
    continued.restore(states)
    assert restored.updates == len(loader)
    continued.fit(loader, 3)
    assert_equal(restored.state_dict()["average"], ema.state_dict()["average"])
    assert_equal(parameters(continued), parameters(whole))


def test_the_restored_average_is_a_copy(trained, make_trainer):
    _, ema = trained
    state = ema.state_dict()
    other = EMA(decay=0.9)
    other.attach(make_trainer())
    other.load_state_dict(state)
    other._average["body.0.weight"].zero_()
    assert float(state["average"]["body.0.weight"].abs().max()) > 0


def test_the_average_of_another_model_is_refused(trained, make_trainer):
    _, ema = trained
    state = ema.state_dict()
    other, average = EMA(), dict(state["average"])
    other.attach(make_trainer())
    average["head.weight"] = torch.zeros(3, 3)
    with pytest.raises(ValueError, match=r"head.weight: expected shape \[2, 8\]"):
        other.load_state_dict({**state, "average": average})
    del average["head.weight"]
    with pytest.raises(ValueError, match=r"head.weight: .* found none"):
        other.load_state_dict({**state, "average": average})
    extra = {**state["average"], "tail": torch.zeros(1)}
    with pytest.raises(ValueError, match="tail: expected shape none"):
        other.load_state_dict({**state, "average": extra})


def test_the_state_cannot_be_taken_while_it_is_in_the_model(trained):
    _, ema = trained
    with ema.averaged_weights(), pytest.raises(RuntimeError, match="leave their context first"):
        ema.state_dict()


@pytest.mark.parametrize("decay", [1, -0.1, 1.5, "0.9", None, float("nan")])
def test_a_decay_out_of_range_is_refused(decay):
    with pytest.raises(UsageError, match=r"ema.decay: a number at least 0 and below 1"):
        EMA(decay)


def test_the_decay_warms_up():
    assert [round(EMA(decay=0.9).decay_at(n), 2) for n in (0, 10, 1000)] == [0.1, 0.55, 0.9]
