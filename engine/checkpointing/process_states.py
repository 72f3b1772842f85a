"""The states of all ranks in one checkpoint.

Nearly all states are equal on all ranks, and rank 0's are saved. The others (random streams, steps
kept by metrics) are saved per rank under ``other_processes``: the rest reads as a checkpoint of a
single process.
"""

from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.errors import UsageError, one_line
from engine.checkpointing.reproducibility import (
    capture_rng,
    preserve_rng_state,
    restore_rng,
    seed_apart,
)
from engine.distributed import (
    full_state,
    gather,
    is_main_process,
    is_sharded,
    map_tensors,
    optimizer_shares,
    raise_on_all_ranks,
    rank,
    shares_of,
    world_size,
)
from engine.protocols import Stateful

OTHERS = "other_processes"
TRAINER, RNG = "trainer", "rng"


def capture_all(stateful: Mapping[str, Stateful], model: nn.Module) -> dict[str, Any]:
    """The state of everything registered, by name; full tensors on rank 0 only. Collective."""
    states: dict[str, Any] = {name: dict(thing.state_dict()) for name, thing in stateful.items()}
    if is_sharded(model):
        states = full_state(states)
    return with_others(states, stateful)


def restore_all(
    stateful: Mapping[str, Stateful], model: nn.Module, states: Mapping[str, Any]
) -> int:
    """Restore the states of :func:`capture_all`; returns the number of their ranks. Collective.

    Things with ``state_may_be_missing`` stay as they are if the checkpoint lacks them. UsageError
    for another set of handlers, or another model.
    """
    with raise_on_all_ranks():
        own, saved_by = of_this_process(states)
        kept = {
            name: thing
            for name, thing in stateful.items()
            if name in own or not getattr(thing, "state_may_be_missing", False)
        }
        _check_names(kept.keys(), own.keys())
        for name, thing in kept.items():
            try:
                _restore_one(thing, own[name], is_sharded(model), saved_by)
            except (RuntimeError, ValueError, KeyError) as error:
                why = one_line(error)
                raise UsageError(f"the checkpoint's {name} does not fit: {why}") from error
    return saved_by


def with_others(states: dict[str, Any], stateful: Mapping[str, Stateful]) -> dict[str, Any]:
    """Rank 0's states, with what differs on the other ranks (``of_each_process``). Collective."""
    if world_size() == 1:
        return states
    own = {
        name: map_tensors(states[name], Tensor.cpu)
        for name, thing in stateful.items()
        if getattr(thing, "of_each_process", False)
    }
    # The first one's are in its states already.
    others = gather(None if is_main_process() else {RNG: states[TRAINER][RNG], **own})[1:]
    return {**states, OTHERS: others}


def of_this_process(states: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """A checkpoint's states for this rank, and the number of ranks that saved; new ones reseed."""
    found = dict(states)
    others = found.pop(OTHERS, [])
    if rank() == 0:
        return found, len(others) + 1
    if rank() <= len(others):
        own = dict(others[rank() - 1])
        rng = own.pop(RNG)
        found.update(own)
    else:
        with preserve_rng_state():
            restore_rng(found[TRAINER][RNG])
            seed_apart(rank())
            rng = capture_rng()
    found[TRAINER] = {**found[TRAINER], RNG: rng}
    return found, len(others) + 1


def _restore_one(thing: Stateful, state: Any, sharded: bool, saved_by: int) -> None:
    if getattr(thing, "of_each_process", False) and saved_by != world_size():
        thing.reset()  # type: ignore[attr-defined]
        return
    if sharded and isinstance(thing, Optimizer):
        state = optimizer_shares(state, thing)
    elif sharded:
        state = shares_of(state, thing.state_dict())
    thing.load_state_dict(state)


def _check_names(kept: Set[str], saved: Set[str]) -> None:
    missing = kept - saved
    # Rank 0 has handlers that the others do not have.
    unknown = saved - kept if is_main_process() else set()
    wrong = [
        f"{verb} {', '.join(sorted(names))}"
        for verb, names in (("lacks", missing), ("also holds", unknown))
        if names
    ]
    if wrong:
        raise UsageError(f"the checkpoint belongs to another set-up: it {' and '.join(wrong)}")
