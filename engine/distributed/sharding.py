"""Sharded weights (FSDP2): each rank keeps a part of every parameter, for models too large for one.

``fully_shard`` makes each parameter a ``DTensor`` of which a rank holds some rows; the full weights
of a block exist only while it computes. Checkpoints hold full tensors, so that sharded and
unsharded runs can continue each other.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from datasets.errors import UsageError
from engine.distributed.collectives import broadcast_, is_main_process, sum_, world_size

Model = TypeVar("Model", bound=nn.Module)


def shard(model: Model, device: torch.device | str = "cpu") -> Model:
    """Shard a model in place, before the optimizer is built; UsageError for one rank. Collective.

    The model takes rank 0's weights. Its forward pass becomes a collective, in evaluation too, so
    that each rank needs the same number of batches (a sampler with ``even=True``). Attach
    :class:`handlers.distributed_training.DistributedTraining` as well. Code that copies the
    weights, or computes with them outside of the forward pass, does not work: see
    :func:`require_unsharded`.
    """
    # Imported here, so that a single process does not wait for it.
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    if world_size() == 1:
        raise UsageError("weights can be shared by several processes only, but there is one")
    model.to(device)
    for tensor in (*model.parameters(), *model.buffers()):
        broadcast_(tensor.detach())
    mesh = init_device_mesh(torch.device(device).type, (world_size(),))
    # Inner blocks first. The rest is resharded after a forward pass, too: an exchange of weights
    # between two passes (a moving average) would leave its full copy out of date.
    blocks: list[nn.Module] = [*reversed(repeated_blocks(model)), model]
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)
    return model


def is_share(tensor: Any) -> bool:
    """Whether a tensor is sharded."""
    return hasattr(tensor, "full_tensor")


def is_sharded(model: nn.Module) -> bool:
    """Whether a model's weights are sharded."""
    return any(is_share(parameter) for parameter in model.parameters())


def require_unsharded(model: nn.Module, user: str) -> None:
    """Raise UsageError, for the handler ``user``, if the model is sharded."""
    if is_sharded(model):
        raise UsageError(
            f"{user} does not work with weights that several processes share: leave it out, or "
            "let each process keep the whole model"
        )


def to_local(tensors: list[Tensor]) -> list[Tensor]:
    """The local part of each tensor, without a copy; if the first is not sharded, none is."""
    if not tensors or not is_share(tensors[0]):
        return tensors
    return [
        each.detach().to_local() if is_share(each) else each  # type: ignore[attr-defined]
        for each in tensors
    ]


def joint_norm(gradients: list[Tensor]) -> Tensor:
    """The common L2 norm of gradients (at least one), a scalar tensor. Collective if sharded."""
    if not is_share(gradients[0]):
        return torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients, 2.0)))
    squares = torch.stack(torch._foreach_norm(to_local(gradients), 2.0)).square()
    shared = torch.tensor([is_share(each) for each in gradients], device=squares.device)
    # Unsharded gradients are on each rank, and count once.
    return (sum_(squares[shared].sum()) + squares[~shared].sum()).sqrt()


def map_tensors(value: Any, change: Callable[[Tensor], Any]) -> Any:
    """The same nest of mappings, lists and tuples, with every tensor changed."""
    if isinstance(value, Tensor):
        return change(value)
    if isinstance(value, Mapping):
        return {key: map_tensors(each, change) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map_tensors(each, change) for each in value)
    return value


def full_state(state: Any) -> Any:
    """A state with full tensors, on rank 0's CPU only, in place of shards. Collective for these."""

    def full(tensor: Any) -> Tensor | None:
        if not is_share(tensor):
            return tensor  # type: ignore[no-any-return]
        whole = tensor.full_tensor()
        return whole.cpu() if is_main_process() else None

    return map_tensors(state, full)


def shares_of(state: Any, like: Any) -> Any:
    """Rank 0's full state with this rank's shards where ``like`` has them; no collective."""
    whole = isinstance(state, Tensor) and not is_share(state)
    if is_share(like) and whole and state.shape == like.shape:
        from torch.distributed.tensor import distribute_tensor

        # Each rank has the full tensor and takes its own rows.
        there, mesh = state.to(like.device), like.device_mesh
        return distribute_tensor(there, mesh, like.placements, src_data_rank=None)
    if isinstance(like, Mapping) and isinstance(state, Mapping):
        return {key: shares_of(value, like.get(key)) for key, value in state.items()}
    both_lists = isinstance(like, (list, tuple)) and isinstance(state, (list, tuple))
    if both_lists and len(like) == len(state):
        return type(state)(shares_of(*pair) for pair in zip(state, like, strict=True))
    return state


def optimizer_shares(state: Mapping[str, Any], optimizer: Optimizer) -> dict[str, Any]:
    """A full optimizer state with its memory sharded as the parameters; no collective."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    memory = state["state"].items()
    like = {number: dict.fromkeys(of_one, parameters[number]) for number, of_one in memory}
    return {**state, "state": shares_of(state["state"], like)}


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """Modules of a class that occurs several times in a ``ModuleList``; outer ones first."""
    found = []
    for module in model.modules():
        if isinstance(module, nn.ModuleList):
            counts = Counter(type(child) for child in module)
            found += [child for child in module if counts[type(child)] > 1]
    return found
