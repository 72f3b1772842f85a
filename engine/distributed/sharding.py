"""Weights in shares: each process keeps a part of every parameter, of models too large for one.

Torch's ``fully_shard`` (FSDP2) makes each parameter a ``DTensor``, of which a process holds some
rows; the whole weights of a block are there only while it computes. Checkpoints hold whole
tensors, as those of a process that trains alone do, so that either can continue the other's.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.errors import UsageError
from engine.distributed.collectives import broadcast_, is_main_process, sum_, world_size

Model = TypeVar("Model", bound=nn.Module)


def shard(model: Model, device: torch.device | str = "cpu") -> Model:
    """Give each process a share of every parameter; to be called before the optimizer is built.

    Each block that stands several times in a ``nn.ModuleList`` is gathered by itself, the rest of
    the model together. The model is changed in place, and takes the first process's weights. Its
    forward pass becomes a meeting of all processes, in evaluation too, so that each needs the same
    number of batches there (a sampler with ``even=True``); its gradients come out averaged over
    the processes. Attach :class:`handlers.distributed_training.DataParallel` as well: it weights
    batches that differ in size, and gives each process random streams of its own.

    What keeps copies of its own of the weights, or computes with them outside of the forward pass,
    does not work with shares: see :func:`require_unsharded`.

    Args:
        model: Alike in each process.
        device: Where it will compute.

    Returns:
        The same model.

    Raises:
        UsageError: There is one process only.
    """
    # Imported where they are needed: a process that trains alone is not to wait for them.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if world_size() == 1:
        raise UsageError("weights can be shared by several processes only, but there is one")
    model.to(device)
    for tensor in (*model.parameters(), *model.buffers()):
        broadcast_(tensor.detach())
    mesh = init_device_mesh(torch.device(device).type, (world_size(),))
    # Inner blocks first. Not even the rest stays whole after a forward pass: whoever exchanges
    # weights between two passes (a moving average) would leave a whole copy that is out of date.
    blocks: list[nn.Module] = [*reversed(repeated_blocks(model)), model]
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    return model


def is_share(tensor: Any) -> bool:
    """Whether a process holds but a share of a tensor."""
    return hasattr(tensor, "full_tensor")


def is_sharded(model: nn.Module) -> bool:
    """Whether the processes share a model's weights.

    Example:
        >>> is_sharded(nn.Linear(1, 1))
        False
    """
    return any(is_share(parameter) for parameter in model.parameters())


def require_unsharded(model: nn.Module, user: str) -> None:
    """Refuse what does not work with weights in shares.

    Args:
        model: Of the trainer.
        user: The handler's name, for the error line.

    Raises:
        UsageError: The model's weights are shared.
    """
    if is_sharded(model):
        raise UsageError(
            f"{user} does not work with weights that several processes share: leave it out, or "
            "let each process keep the whole model"
        )


# -- computing with shares --------------------------------------------------------------------


def to_local(tensors: list[Tensor]) -> list[Tensor]:
    """What this process holds of tensors, in their own memory: a share's rows, else the whole.

    Args:
        tensors: Where the first is no share, none is.
    """
    if not tensors or not is_share(tensors[0]):
        return tensors
    return [
        each.detach().to_local() if is_share(each) else each  # type: ignore[attr-defined]
        for each in tensors
    ]


def joint_norm(gradients: list[Tensor]) -> Tensor:
    """The common L2 norm of gradients, a scalar on their device; of shares, over all processes.

    Args:
        gradients: At least one; where the first is no share, none is.

    Example:
        >>> joint_norm([torch.tensor([3.0]), torch.tensor([4.0])])
        tensor(5.)
    """
    if not is_share(gradients[0]):
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)))
    squares = torch.stack(torch._foreach_norm(to_local(gradients), 2.0)).square()
    shared = torch.tensor([is_share(each) for each in gradients], device=squares.device)
    # What is no share is in each process, and counts once.
    return (sum_(squares[shared].sum()) + squares[~shared].sum()).sqrt()


# -- states -----------------------------------------------------------------------------------


def full_state(state: Any) -> Any:
    """A state with whole tensors in the place of shares, on the CPU of the first process.

    A meeting where there are shares. The other processes get None in their place.

    Args:
        state: Nested dicts and sequences, as ``state_dict`` gives them.
    """
    if is_share(state):
        full = state.full_tensor()
        return full.cpu() if is_main_process() else None
    if isinstance(state, Mapping):
        return type(state)((key, full_state(value)) for key, value in state.items())  # type: ignore[call-arg]
    if isinstance(state, (list, tuple)):
        return type(state)(full_state(value) for value in state)
    return state


def shares_of(state: Any, like: Any) -> Any:
    """A state with this process's shares in the place of whole tensors; no meeting.

    Args:
        state: As :func:`full_state` gave it to the first process, in each.
        like: A state of the same keys, that has shares where they are wanted.
    """
    if is_share(like) and isinstance(state, Tensor) and not is_share(state):
        return _cut(state, like)
    if isinstance(like, Mapping) and isinstance(state, Mapping):
        return {key: shares_of(value, like.get(key)) for key, value in state.items()}
    both_lists = isinstance(like, (list, tuple)) and isinstance(state, (list, tuple))
    if both_lists and len(like) == len(state):
        return [shares_of(value, each) for value, each in zip(state, like, strict=True)]
    return state


def optimizer_shares(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """An optimizer's state with shares of its memory, as its parameters are shared; no meeting.

    Args:
        state: A whole one, as ``Optimizer.state_dict`` gives it where nothing is shared.
        optimizer: Whose parameters are shares.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    memory = {
        number: {
            name: _cut(value, parameters[number])
            if isinstance(value, Tensor) and value.shape == parameters[number].shape
            else value
            for name, value in of_one.items()
        }
        for number, of_one in state["state"].items()
    }
    return {**state, "state": memory}


def _cut(tensor: Tensor, like: Any) -> Tensor:
    from torch.distributed.tensor import distribute_tensor

    if not is_share(like) or tensor.shape != like.shape:
        return tensor
    tensor = tensor.to(like.device)
    # Each process has the whole tensor and takes its own rows.
    return distribute_tensor(tensor, like.device_mesh, like.placements, src_data_rank=None)


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The modules of which several of one class stand in a list; outer ones before inner ones.

    Example:
        >>> layers = nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU()])
        >>> len(repeated_blocks(nn.Sequential(layers)))
        2
    """
    found = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            counts = Counter(type(child) for child in module)
            found += [child for child in module if counts[type(child)] > 1]
    return found
