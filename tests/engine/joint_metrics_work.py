"""What processes do that measure a model together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from engine import EpochMetrics, Evaluator
from engine.distributed import (
    alone,
    broadcast_from_main,
    gather,
    is_main_process,
    main_process_first,
    raise_on_all_ranks,
    rank,
    world_size,
)
from engine.explain import Embeddings
from engine.losses import CrossEntropy
from engine.metrics import EpochOutputs
from tests.shared_problem import SharedLoader, build_model

SAMPLES, BATCH = 5, 2


def measure(model: nn.Module, batch_size: int = BATCH) -> dict[str, Any]:
    """Of five samples, in the order in which the loader gives them."""
    evaluator = Evaluator(model, CrossEntropy(), EpochMetrics())
    embeddings = Embeddings()
    embeddings.attach(evaluator)
    loader = SharedLoader(SAMPLES, batch_size, even=False)
    metrics = evaluator.evaluate(loader)
    outputs = evaluator.metrics.outputs
    assert isinstance(outputs, EpochOutputs)
    return {
        "metrics": metrics,
        "logits": outputs.logits,
        "sample_id": outputs.sample_id,
        "vectors": embeddings.vectors,
        "batches": len(loader),
    }


def who_fails(failing: set[int]) -> str:
    """What each process raises where some of them fail."""
    try:
        with raise_on_all_ranks():
            if rank() in failing:
                raise ValueError(f"process {rank()} failed")
    except ValueError as error:
        return str(error)
    return "nobody failed"


class UnsendableError(Exception):
    """Its text cannot be made again from its arguments."""

    def __init__(self, one: int, two: int) -> None:
        super().__init__(f"{one} and {two}")


def what_the_first_raises() -> str:
    def make() -> None:
        raise UnsendableError(1, 2)

    try:
        broadcast_from_main(make)
    except (UnsendableError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def order_of_passing(folder: Path) -> list[str]:
    with main_process_first():
        found = sorted(path.name for path in folder.glob("*.passed"))
        if is_main_process():
            (folder / "first.passed").touch()
    return found


def work(folder: Path) -> dict[str, Any]:
    """All of it, together."""
    model = build_model()
    with alone():
        by_itself = measure(model)
        company = world_size()
    return {
        "together": measure(model),
        "two_batches": measure(model, batch_size=3),
        "by_itself": by_itself,
        "company": company,
        "gathered": gather("abc"[rank()] * (rank() + 1)),
        "last_fails": who_fails({world_size() - 1}),
        "nobody_fails": who_fails(set()),
        "first_raises": what_the_first_raises(),
        "passed_before": order_of_passing(folder),
    }
