"""What the first process sees when the other ends in the middle of the training."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events

from engine.distributed import PeerLostError, gather, peer_failure, rank
from tests.handlers.distributed_training_work import build
from tests.shared_problem import SharedLoader


def work(folder: Path) -> dict[str, Any]:
    """The last work of two processes: afterwards there is but one."""
    trainer = build()
    if rank() == 1:

        @trainer.on(Events.ITERATION_STARTED(once=4))
        def end() -> None:
            torch.save({}, folder / "of-2" / f"{__name__}-1.pt")
            os._exit(1)

    found: dict[str, Any] = {}
    try:
        trainer.fit(SharedLoader(10, 4), 5)
    except RuntimeError as error:
        found["in_a_step"] = peer_failure(error)
    try:
        gather("anyone?")
    except PeerLostError as error:
        found["in_a_meeting"] = str(error)
    return found
