"""The states of several processes in one: what a checkpoint of theirs holds.

Nearly everything is the same in each process, and the first one's stands for all. What is not (the
random streams, the steps that metrics have kept of an epoch) is beside it for the others, under a
name of its own: the rest reads as a checkpoint of a process that trains alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.errors import UsageError
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
    """The state of everything that is kept, by name; a meeting.

    Args:
        stateful: By name.
        model: The one that is trained; where its weights are shared, the first process alone gets
            whole tensors.
    """
    states: dict[str, Any] = {name: dict(thing.state_dict()) for name, thing in stateful.items()}
    if is_sharded(model):
        states = full_state(states)
    return with_others(states, stateful)


def restore_all(
    stateful: Mapping[str, Stateful], model: nn.Module, states: Mapping[str, Any]
) -> int:
    """Put everything that is kept back to captured states; a meeting.

    Args:
        stateful: By name; those that declare ``state_may_be_missing`` stay as they are where the
            checkpoint has nothing of them.
        model: The one that is trained.
        states: As :func:`capture_all` gave them to the first process, in each.

    Returns:
        How many processes saved them.

    Raises:
        UsageError: The states belong to another set of handlers, or another model.
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
                reason = " ".join(str(error).split())
                raise UsageError(f"the checkpoint's {name} does not fit: {reason}") from error
    return saved_by


def with_others(states: dict[str, Any], stateful: Mapping[str, Stateful]) -> dict[str, Any]:
    """One's states, and in several processes what the others hold of their own; a meeting.

    Args:
        states: By name, of this process.
        stateful: What they are the states of; those that declare ``of_each_process`` differ from
            process to process.
    """
    if world_size() == 1:
        return states
    own = {
        name: _on_cpu(states[name])
        for name, thing in stateful.items()
        if getattr(thing, "of_each_process", False)
    }
    # The first one's are in its states already.
    others = gather(None if is_main_process() else {RNG: states[TRAINER][RNG], **own})[1:]
    return {**states, OTHERS: others}


def of_this_process(states: Mapping[str, Any]) -> tuple[dict[str, Any], int]:
    """A checkpoint's states as this process continues them, and how many processes saved them.

    A process that had no part in saving gets random streams that follow from the first one's.
    """
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
    # The first process keeps handlers that the others do not have.
    unknown = saved - kept if is_main_process() else set()
    if missing or unknown:
        raise UsageError(
            "the checkpoint belongs to another set-up: it "
            + " and ".join(
                f"{verb} {', '.join(sorted(names))}"
                for verb, names in (("lacks", missing), ("also holds", unknown))
                if names
            )
        )


def _on_cpu(state: Any) -> Any:
    """The same state with its tensors where every process can read them."""
    if isinstance(state, Tensor):
        return state.cpu()
    if isinstance(state, Mapping):
        return {key: _on_cpu(value) for key, value in state.items()}
    if isinstance(state, (list, tuple)):
        return [_on_cpu(value) for value in state]
    return state
