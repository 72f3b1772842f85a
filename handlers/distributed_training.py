"""Several processes that train one model, each on batches of its own."""

import inspect
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from datasets.errors import UsageError
from engine.checkpointing import seed_apart
from engine.distributed import (
    broadcast_,
    gather,
    is_sharded,
    mean_,
    rank,
    require_unsharded,
    sum_,
    world_size,
)
from engine.events import Phase, TrainEvents, in_phase
from engine.trainer import Trainer

# DistributedDataParallel's error where a parameter had no part in a step's loss.
NOT_FINISHED = "Expected to have finished reduction in the prior iteration"
USED_NOW_AND_THEN = (
    "distributed_training: parameters have a part in the loss of some steps only; set "
    "find_unused_parameters to true"
)
# Its name depends on torch's version.
NAMES = inspect.signature(DistributedDataParallel).parameters
SYNC_BUFFERS = next(n for n in ("forward_sync_buffers", "broadcast_buffers") if n in NAMES)


class DistributedTraining:
    """Adds up the gradients of all ranks: the step is that of one process with all batches.

    Wraps ``trainer.network`` in ``torch.nn.parallel.DistributedDataParallel``; ``trainer.model``
    and names in checkpoints stay as they are. All ranks start with the weights of rank 0, and with
    random streams of their own, so that dropout differs. A single process is left as it is.

    Each loss is weighted with its batch's share of the step (:class:`engine.optim.StepShares`).
    Functions of a whole batch (a norm over the batch, a contrastive loss, mixing) see their own
    rank's part. Running statistics of norms are those of rank 0. Other parameters of the optimizer
    (learned weights of losses) are averaged too. Of a sharded model
    (:func:`engine.distributed.shard`), which adds up its gradients itself, only the batches are
    weighted. A resumed run of two ranks is the uncut one bit by bit; of more, up to rounding,
    because torch adds up gradients in another order in its first steps.

    Args:
        find_unused_parameters: Whether to search each step for parameters without a part in the
            loss. None searches the first step, and again whenever parameters are frozen or
            released, and goes on only if there are some; set true where it depends on the batch.
        static_graph: Promise that each step uses the same parameters, in the same order: torch then
            searches once, and activations may be recomputed.
        overlap: Whether to send gradients during the backward pass, or all at its end: better where
            it is one CUDA graph.
    """

    phase = Phase.PREPARE

    def __init__(
        self,
        find_unused_parameters: bool | None = None,
        static_graph: bool = False,
        overlap: bool = True,
    ) -> None:
        given: dict[str, Any] = {"static_graph": static_graph, "overlap": overlap}
        if find_unused_parameters is not None:
            given["find_unused_parameters"] = find_unused_parameters
        for name, value in given.items():
            if not isinstance(value, bool):
                what = f"distributed_training.{name}"
                raise UsageError(f"{what} must be true or false, not {value!r}")
        if static_graph and find_unused_parameters:
            raise UsageError(
                "distributed_training: with static_graph torch finds unused parameters by itself: "
                "leave find_unused_parameters out"
            )
        self.find_unused_parameters = find_unused_parameters
        self.static_graph = static_graph
        self.overlap = overlap
        self._sharded = False
        self._wrapped: DistributedDataParallel | None = None
        self._steps = 0  # since the trained parameters changed
        self._trained: list[nn.Parameter] = []
        self._used: list[bool] | None = None  # on any rank
        self._beside: list[nn.Parameter] = []  # trained, but not of the model
        self._moving: list[Tensor] = []  # buffers that are not constant
        self._held = ExitStack()

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and to steps, where there are several ranks."""
        if world_size() == 1:
            return
        trainer.step_shares.processes = world_size()
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(TrainEvents.BATCH_READY, self)
        trainer.add_event_handler(TrainEvents.BACKWARD_COMPLETED, self.after_backward)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.share_buffers)

    def start(self, trainer: Trainer) -> None:
        """Broadcast the weights of rank 0; UsageError if the ranks' numbers of batches differ."""
        if len(set(gather(trainer.state.epoch_length))) > 1:
            raise UsageError(
                "the processes have different numbers of batches an epoch, and would wait for "
                "each other: give each loader a sampler with its rank, the world_size and even=True"
            )
        model = trainer.model
        own = set(model.parameters())
        moved = [p for group in trainer.optimizer.param_groups for p in group["params"]]
        self._beside = [parameter for parameter in moved if parameter not in own]
        saved = model.state_dict(keep_vars=True)
        # Buffers that are not in checkpoints are constant.
        self._moving = [buffer for name, buffer in model.named_buffers() if name in saved]
        self._sharded = is_sharded(model)
        if self._sharded and trainer.precision.scaler is not None:
            require_unsharded(model, "mixed_precision with fp16")
        whole = [] if self._sharded else [*model.parameters(), *model.buffers()]
        for tensor in (*whole, *self._beside):
            broadcast_(tensor.detach())
        if trainer.state.iteration == 0 and rank() > 0:
            seed_apart(rank())

    @in_phase(Phase.GUARD)
    def start_epoch(self, trainer: Trainer) -> None:
        """List the parameters trained in this epoch."""
        trained = [parameter for parameter in trainer.model.parameters() if parameter.requires_grad]
        if [*map(id, trained)] != [*map(id, self._trained)]:  # something was frozen or released
            self._trained, self._used, self._steps = trained, None, 0
            self._unwrap(trainer)
            if self.overlap and (self.static_graph or self.find_unused_parameters is not None):
                self._wrap(trainer, bool(self.find_unused_parameters))

    def _wrap(self, trainer: Trainer, look: bool) -> None:
        if self._sharded or not self._trained:
            return
        self._wrapped = trainer.network = _Parallel(
            trainer.network,
            find_unused_parameters=look,
            static_graph=self.static_graph,
            gradient_as_bucket_view=True,
            **{SYNC_BUFFERS: bool(self._moving)},  # type: ignore[arg-type]
        )

    def _unwrap(self, trainer: Trainer) -> None:
        if self._wrapped is not None:
            # Its hooks would go on sending each gradient.
            self._wrapped._remove_autograd_hooks()
            trainer.network, self._wrapped = self._wrapped.module, None

    def __call__(self, trainer: Trainer) -> None:
        """Send no gradients within an accumulation."""
        state = trainer.state
        self._held.close()
        # With a static graph torch has to see a whole step first.
        learning = self.static_graph and self._steps == 0
        if self._wrapped is not None and not state.sync_gradients and not learning:
            self._held.enter_context(self._wrapped.no_sync())

    def after_backward(self, trainer: Trainer) -> None:
        """Average the gradients that the wrapper does not; it is chosen after the first step."""
        self._held.close()
        if not trainer.state.sync_gradients:
            return
        self._steps += 1
        for parameter in self._beside:
            if parameter.grad is not None:
                sum_(parameter.grad).div_(world_size())
        if self._wrapped is None and not self._sharded:
            if self._used is None or self.find_unused_parameters:
                found = gather([parameter.grad is not None for parameter in self._trained])
                self._used = [any(of_each) for of_each in zip(*found, strict=True)]  # on any rank
            self._average(self._used)
            if self.overlap:
                self._wrap(trainer, look=not all(self._used))

    def _average(self, used: Sequence[bool]) -> None:
        """Average the gradients without the wrapper; UsageError for one outside of ``used``."""
        gradients = []
        for parameter, anywhere in zip(self._trained, used, strict=True):
            if anywhere:
                if parameter.grad is None:
                    parameter.grad = torch.zeros_like(parameter)
                gradients.append(parameter.grad)
            elif parameter.grad is not None:
                raise UsageError(USED_NOW_AND_THEN)
        mean_(gradients)

    def share_buffers(self) -> None:
        """Give all ranks the running statistics of rank 0."""
        for buffer in self._moving:
            broadcast_(buffer)


class _Parallel(DistributedDataParallel):
    """Turns torch's error about unused parameters into a UsageError."""

    def forward(self, *inputs: Any, **named: Any) -> Any:
        try:
            return super().forward(*inputs, **named)
        except RuntimeError as error:
            if NOT_FINISHED not in str(error):
                raise
            raise UsageError(USED_NOW_AND_THEN) from error
