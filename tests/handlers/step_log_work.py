"""What processes log of the optimizer steps that they make together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine import TrainEvents
from handlers.accumulation import Accumulation
from handlers.step_log import StepLog
from tests.handlers.distributed_training_work import TwoTerms, build
from tests.shared_problem import SharedLoader


def steps_of(joint: int | None = None) -> list[dict[str, Any]]:
    """The steps that this process announces.

    Args:
        joint: As :class:`tests.shared_problem.SharedLoader` takes it.
    """
    trainer, rows = build(Accumulation(2), StepLog(), loss=TwoTerms()), []

    def note() -> None:
        if trainer.state.notice["event"] == "step":
            rows.append(trainer.state.notice)

    trainer.add_event_handler(TrainEvents.LOG_EVENT, note)
    # The last batch of an epoch is smaller, and so is the last window.
    trainer.fit(SharedLoader(samples=19, batch_size=3, joint=joint), 2)
    return rows


def work(folder: Path) -> dict[str, Any]:
    """Called by every process."""
    return {"steps": steps_of()}
