"""What processes do that a signal tells to stop, of which each may hear at another moment."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

from ignite.engine import Events

from engine import EpochMetrics, Evaluator, Trainer
from engine.distributed import StopConsensus, barrier, rank
from engine.losses import CrossEntropy
from engine.optim import build_optimizer
from handlers import graceful_shutdown
from handlers.accumulation import Accumulation
from handlers.distributed_training import DistributedTraining
from handlers.graceful_shutdown import GracefulShutdown
from handlers.validation import Validation
from tests.shared_problem import SharedLoader, build_model

EPOCHS = 4
# Five batches for each of two processes; of the validation the second has one less, or none.
SAMPLES, BATCH = 38, 4


class Impatient(StopConsensus):
    """Calls after each iteration: a test is to know when."""

    def __init__(self) -> None:
        super().__init__(every_s=0.0)


def run(folder: Path, disturb: Callable[[Trainer, Evaluator], None], held_out: int) -> Any:
    """A run that is disturbed; where it stood, and why it ended."""
    trainer, evaluator, answer = build(held_out, folder)
    disturb(trainer, evaluator)
    trainer.fit(SharedLoader(SAMPLES, BATCH), EPOCHS)
    state = trainer.state
    return {
        "iteration": state.iteration,
        "open": state.open_epoch is not None,
        "measured": evaluator.state.iteration,
        "code": answer.exit_code,
    }


def build(held_out: int, folder: Path) -> tuple[Trainer, Evaluator, GracefulShutdown]:
    """A trainer that is validated on so many samples and answers signals."""
    model = build_model()
    trainer = Trainer(model, build_optimizer(model, "adamw", lr=0.01), CrossEntropy())
    evaluator = Evaluator(model, CrossEntropy(), EpochMetrics())
    answer = GracefulShutdown()
    answer.watch(evaluator)
    loader = SharedLoader(held_out, 1, shuffle=False, even=False)
    trainer.attach(
        DistributedTraining(), answer, Accumulation(steps=2), Validation(evaluator, loader)
    )
    return trainer, evaluator, answer


def kill(number: int) -> None:
    """Have this process hear a signal."""
    os.kill(os.getpid(), number)


def work(folder: Path) -> dict[str, Any]:
    """All ways to be stopped."""

    def second_in_training(trainer: Trainer, evaluator: Evaluator) -> None:
        if rank() == 1:
            event = Events.ITERATION_STARTED(once=3)
            trainer.add_event_handler(event, lambda: kill(signal.SIGTERM))

    def first_in_validation(trainer: Trainer, evaluator: Evaluator) -> None:
        if rank() == 0:
            event = Events.ITERATION_STARTED(once=2)
            evaluator.add_event_handler(event, lambda: kill(signal.SIGINT))

    def before_validation(trainer: Trainer, evaluator: Evaluator) -> None:
        if rank() == 1:
            # After the call that follows the epoch's last iteration.
            event = Events.ITERATION_COMPLETED(once=5)
            trainer.add_event_handler(event, lambda: kill(signal.SIGTERM))

    def both_apart(trainer: Trainer, evaluator: Evaluator) -> None:
        event = Events.ITERATION_STARTED(once=2 + rank())
        trainer.add_event_handler(event, lambda: kill(signal.SIGTERM))

    def both_twice(trainer: Trainer, evaluator: Evaluator) -> None:
        # As a scheduler does that signals all, and a launcher that passes it on.
        both_apart(trainer, evaluator)
        both_apart(trainer, evaluator)

    def in_the_last_moment(trainer: Trainer, evaluator: Evaluator) -> None:
        if rank() == 1:
            # After the last call of an iteration, before the run's own end.
            event = Events.EPOCH_COMPLETED(once=EPOCHS)
            trainer.add_event_handler(event, lambda: kill(signal.SIGTERM))

    with patch.object(graceful_shutdown, "StopConsensus", Impatient):
        found = {
            "second_in_training": run(folder, second_in_training, held_out=5),
            "first_in_validation": run(folder, first_in_validation, held_out=5),
            "nothing_to_validate": run(folder, before_validation, held_out=1),
            "both_apart": run(folder, both_apart, held_out=5),
            "both_twice": run(folder, both_twice, held_out=5),
            "in_the_last_moment": run(folder, in_the_last_moment, held_out=5),
            "undisturbed": run(folder, lambda trainer, evaluator: None, held_out=5),
        }
    barrier()
    return found
