from __future__ import annotations

import pytest
import torch
from ignite.engine import Events

from engine import Phase, TrainEvents, UsageError
from handlers.gradient_clipping import GradientClipping


def gradients(trainer):
    return [None if p.grad is None else p.grad.clone() for p in trainer.model.parameters()]


def seen_gradients(trainer, loader, phase):
    """The gradients of the first step, as a function of that phase sees them."""
    seen = []
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY, lambda: seen.append(gradients(trainer)), phase=phase
    )
    trainer.fit(loader, 1)
    return seen[0]


@pytest.mark.parametrize("max_norm", [0.01, 1000.0])
def test_the_gradients_are_those_of_torchs_own_clipping(make_trainer, loader, max_norm):
    trainer, by_torch = make_trainer(), make_trainer()
    GradientClipping(max_norm).attach(trainer)
    by_torch.add_event_handler(
        TrainEvents.GRADIENTS_READY,
        lambda: torch.nn.utils.clip_grad_norm_(by_torch.model.parameters(), max_norm),
    )
    torch.manual_seed(1)
    ours = seen_gradients(trainer, loader, Phase.USER)
    torch.manual_seed(1)
    theirs = seen_gradients(by_torch, loader, Phase.USER)
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=0)


def test_training_ends_where_torchs_own_clipping_would_lead(make_trainer, loader):
    # Not Adam, which blows a gradient of mere rounding up to a whole step.
    trainer, by_torch = (make_trainer(name="sgd", lr=0.5) for _ in range(2))
    GradientClipping(0.1).attach(trainer)
    by_torch.add_event_handler(
        TrainEvents.GRADIENTS_READY,
        lambda: torch.nn.utils.clip_grad_norm_(by_torch.model.parameters(), 0.1),
    )
    for each in (trainer, by_torch):
        torch.manual_seed(1)
        each.fit(loader, 3)
    for mine, other in zip(trainer.model.parameters(), by_torch.model.parameters(), strict=True):
        torch.testing.assert_close(mine, other)


def test_the_norm_before_clipping_can_be_read(make_trainer, loader):
    trainer = make_trainer()
    expected = torch.stack([g.norm() for g in seen_gradients(trainer, loader, Phase.GUARD)]).norm()
    trainer = make_trainer()
    GradientClipping(1e-3).attach(trainer)
    norms = []
    trainer.add_event_handler(
        TrainEvents.GRADIENTS_READY, lambda: norms.append(trainer.state.gradient_norm)
    )
    trainer.fit(loader, 1)
    torch.testing.assert_close(norms[0], expected)


def test_a_parameter_without_a_gradient_is_passed_over(make_trainer, loader):
    trainer = make_trainer()
    trainer.model.head.bias.requires_grad_(False)
    GradientClipping(0.01).attach(trainer)
    clipped = seen_gradients(trainer, loader, Phase.USER)
    assert clipped[-1] is None
    total = torch.stack([g.norm() for g in clipped if g is not None]).norm()
    assert float(total) == pytest.approx(0.01, rel=1e-3)


def test_a_step_without_any_gradient_is_no_error(make_trainer, loader):
    trainer = make_trainer()
    GradientClipping().attach(trainer)
    trainer.add_event_handler(
        TrainEvents.BACKWARD_COMPLETED, lambda: trainer.optimizer.zero_grad(set_to_none=True)
    )
    trainer.fit(loader, 1)
    assert trainer.state.optimizer_step == len(loader)


def test_a_parameter_that_joins_later_is_clipped(make_trainer, loader):
    trainer = make_trainer(name="sgd", lr=0.0)
    late = torch.nn.Parameter(torch.ones(3))
    norms: list[float] = []

    def join(trainer):
        trainer.optimizer.add_param_group({"params": [late]})

    def give_it_a_gradient():
        late.grad = torch.full((3,), 100.0)

    def look(trainer):
        assert late.grad is not None
        norms.append(float(late.grad.norm()))

    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), join, phase=Phase.PREPARE)
    trainer.add_event_handler(TrainEvents.BACKWARD_COMPLETED, give_it_a_gradient)
    trainer.add_event_handler(TrainEvents.GRADIENTS_READY, look)
    GradientClipping(1.0).attach(trainer)
    trainer.fit(loader, 2)
    assert norms[0] > 100
    assert norms[-1] <= 1.0001


def test_it_runs_after_the_guards_and_before_users_functions():
    assert Phase.GUARD < GradientClipping.phase < Phase.USER


@pytest.mark.parametrize("max_norm", [0, -1.0, float("nan"), float("inf"), "1", None, True])
def test_a_norm_that_is_not_above_zero_is_refused(max_norm):
    with pytest.raises(UsageError, match=r"gradient_clipping.max_norm: a number above 0"):
        GradientClipping(max_norm)
