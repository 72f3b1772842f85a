"""Work of ranks that agree on stop signals."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.distributed import StopConsensus, rank

ITERATIONS = 20_000


def work(folder: Path) -> dict[str, Any]:
    """After which iterations calls are held, and what is answered."""
    return {
        "quick": calls(StopConsensus(every_s=0.02)),
        "each": calls(StopConsensus(every_s=0.0), iterations=5),
        # The second process has one iteration less than the first.
        "apart": calls(StopConsensus(every_s=0.0), iterations=5 - rank(), last=5 - rank()),
        "answers": answers(),
    }


def calls(
    roll_call: StopConsensus, iterations: int = ITERATIONS, last: int | None = None
) -> list[int]:
    """The iterations, of many quick ones, after which a call is held."""
    held = []
    roll_call.begin(0, last=last)
    for iteration in range(1, iterations + 1):
        if iteration == roll_call.due:
            held.append(iteration)
            roll_call.ask(iteration, 0)
    return held


def answers() -> list[int]:
    """What three calls come to, of which only the second process has something to say."""
    roll_call = StopConsensus(every_s=0.0)
    return [
        roll_call.begin(0, answer=0),
        roll_call.ask(1, answer=15 * rank()),
        roll_call.ask(2, answer=0),
    ]
