"""One training iteration and one evaluation iteration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from engine.events import TrainEvents
from engine.model_call import call_loss, call_model

if TYPE_CHECKING:
    from engine.evaluator import Evaluator
    from engine.trainer import Trainer


def train_step(trainer: Trainer, batch: Any) -> dict[str, Tensor]:
    """One training iteration (micro-batch), with its events; returns the named losses, detached."""
    state, fire = trainer.state, trainer.fire_event
    state.batch = batch = batch.to(trainer.device, non_blocking=True)
    fire(TrainEvents.BATCH_READY)

    with trainer.precision.autocast():
        state.outputs = call_model(trainer.network, batch)
        fire(TrainEvents.FORWARD_COMPLETED)
        aux = getattr(batch, "aux", None)
        state.losses = call_loss(trainer.loss, state.outputs, batch.target, aux)
    fire(TrainEvents.LOSS_COMPLETED)

    total = state.losses["total_loss"]
    # The share of the optimizer step, where it has several micro-batches or processes.
    trainer.precision.backward(total if state.batch_weight is None else total * state.batch_weight)
    state.losses = {name: value.detach() for name, value in state.losses.items()}
    fire(TrainEvents.BACKWARD_COMPLETED)

    if state.sync_gradients:
        trainer.precision.unscale(trainer.optimizer)
        state.skip_step = False
        fire(TrainEvents.GRADIENTS_READY)
        if state.skip_step:
            trainer.precision.skip(trainer.optimizer)
        elif trainer.precision.step(trainer.optimizer):
            state.optimizer_step += 1
            fire(TrainEvents.OPTIMIZER_STEPPED)
        trainer.optimizer.zero_grad(set_to_none=True)
    return state.losses


@torch.no_grad()
def eval_step(evaluator: Evaluator, batch: Any) -> dict[str, Tensor]:
    """One evaluation iteration, without gradients: the named losses."""
    state = evaluator.state
    state.batch = batch = batch.to(evaluator.device, non_blocking=True)
    with evaluator.precision.autocast():
        state.outputs = call_model(evaluator.model, batch)
        aux = getattr(batch, "aux", None)
        state.losses = call_loss(evaluator.loss, state.outputs, batch.target, aux)
    return state.losses
