"""The weight of each micro-batch in its optimizer step, and the steps that the device left out."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from torch import Tensor

from engine.distributed import rank, sum_
from engine.events import Phase, TrainEvents, in_phase

if TYPE_CHECKING:
    from engine.trainer import Trainer

TOTAL, SAMPLES = "total_loss", "number of samples"
# Avoids 0 / 0 in a step whose classes all have weight 0.
SMALLEST = float(torch.finfo(torch.float32).tiny)
# Steps after which a verdict is read: the device has computed it by then. A fixed number keeps runs
# repeatable.
STEPS_LATER = 3


class StepShares:
    """Weights losses so that an optimizer step is that of one batch with all its samples.

    Each loss is a mean, sum_b / n_b, over its batch b; that of the joint batch is the sum of (n_b /
    n) (sum_b / n_b). So ``state.batch_weight`` is n_b / n, times the number of ranks
    (``processes``), over which torch takes the mean. Gradients of terms with other denominators
    than the total (:data:`engine.protocols.Loss`) are corrected.

    Denominators must be known before a step's first backward pass. They follow from the sampler's
    ``batch_sizes(epoch)``. Without it, or with class weights, the micro-batches of a step are read
    ahead, and ranks sum their denominators, without waiting for the device.
    """

    phase = Phase.PREPARE

    def __init__(self) -> None:
        self.processes = 1
        self._weighted = False
        self._sizes: Any = None
        self._planned: list[float] = []
        self._coming: deque[tuple[dict[str, Any], dict[str, Any] | None]] = deque()
        self._in_step: dict[str, Any] = {}
        self._factors: dict[str, Any] = {}

    def prepare(self, trainer: Trainer, loader: Any) -> Any:
        """Prepare a training, with ``state.accumulate_steps`` set; the loader to train with."""
        state, loss = trainer.state, trainer.loss
        state.batch_weight = None
        self._in_step, self._factors = {}, {}
        if state.accumulate_steps == self.processes == 1:
            return loader
        self._weighted = getattr(loss, "weighted", False)
        sampler = trainer.data_sampler
        known = getattr(sampler, "world_size", 1) == self.processes
        self._sizes = getattr(sampler, "batch_sizes", None) if known else None
        if not trainer.has_event_handler(self, TrainEvents.BATCH_READY):
            trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch, phase=Phase.GUARD)
            trainer.add_event_handler(TrainEvents.BATCH_READY, self)
            if self._weighted:
                trainer.add_event_handler(TrainEvents.LOSS_COMPLETED, self.weigh_terms)
        if state.accumulate_steps > 1 and (self._weighted or self._sizes is None):
            return _ReadAhead(loader, trainer, self._coming)
        return loader

    def start_epoch(self, trainer: Trainer) -> None:
        """Compute the weights that follow from the batch sizes of the epoch."""
        state = trainer.state
        self._planned = []
        if self._sizes is not None and not self._weighted:
            sizes = self._sizes(state.epoch)
            own = rank() if self.processes > 1 else 0
            self._planned = shares(sizes, own, self.processes, state.accumulate_steps)

    def __call__(self, trainer: Trainer) -> None:
        """Set the weight of this micro-batch."""
        state = trainer.state
        if self._planned:
            state.batch_weight = self._planned[(state.iteration - 1) % state.epoch_length]
            return
        own, step = self._coming.popleft() if self._coming else (None, None)
        if own is None:
            own = step = denominators(trainer, state.batch)
        if step is not None:
            self._in_step = self._of_all_processes(step, trainer.device)
        share = {name: n * self.processes / self._in_step[name] for name, n in own.items()}
        total = TOTAL if TOTAL in share else SAMPLES
        state.batch_weight = share[total]
        self._factors = {name: each / share[total] for name, each in share.items() if name != total}

    def _of_all_processes(self, step: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
        """A step's denominators, summed over the ranks; never zero."""
        if self.processes == 1 and not self._weighted:
            return dict(step)
        values = [torch.as_tensor(n, dtype=torch.float32, device=device) for n in step.values()]
        summed = torch.stack(values)
        if self.processes > 1:
            sum_(summed)
        return dict(zip(step, summed.clamp_min(SMALLEST).unbind(), strict=True))

    def weigh_terms(self, trainer: Trainer) -> None:
        """Correct the gradients of terms with other denominators than the total's."""
        for name, term in trainer.state.losses.items():
            factor = self.factor_of(name)
            if factor is not None and term.requires_grad:
                term.register_hook(factor.mul)

    def share_of(self, term: str, state: Any) -> float | Tensor:
        """The weight in its optimizer step of a term (a name of ``state.losses``)."""
        whole: float | Tensor = 1.0 if state.batch_weight is None else state.batch_weight
        factor = self.factor_of(term)
        return whole if factor is None else whole * factor

    def factor_of(self, term: str) -> Any:
        """The weight of a term relative to the total's; None for 1."""
        counted_as = term if term in self._in_step else SAMPLES
        total = TOTAL if TOTAL in self._in_step else SAMPLES
        return None if term == TOTAL or counted_as == total else self._factors[counted_as]


class _ReadAhead:
    """Reads all micro-batches of an optimizer step before it yields the first.

    ``coming`` is filled with each one's denominators, and for the first of a step their sum.
    """

    def __init__(self, loader: Any, trainer: Trainer, coming: deque[Any]) -> None:
        self.loader, self.trainer, self.coming = loader, trainer, coming
        if hasattr(loader, "dataset"):
            self.dataset = loader.dataset

    def __len__(self) -> int:
        """Micro-batches of an epoch."""
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        """Begin an epoch, or continue one."""
        state = self.trainer.state
        position = state.iteration % len(self)
        batches = iter(self.loader)
        self.coming.clear()
        while position < len(self):
            step = list(islice(batches, state.accumulate_steps - position % state.accumulate_steps))
            if not step:
                return
            each = [denominators(self.trainer, batch) for batch in step]
            sums = {name: sum(own[name] for own in each) for name in each[0]}
            self.coming.extend((own, None if n else sums) for n, own in enumerate(each))
            yield from step
            position += len(step)


def denominators(trainer: Trainer, batch: Any) -> dict[str, Any]:
    """What a batch's mean losses are divided by: the number of samples, and terms' own."""
    found: dict[str, Any] = {SAMPLES: len(batch.target)}
    loss: Any = trainer.loss
    if getattr(loss, "weighted", False):
        # A batch that is read ahead is not on the device yet.
        device, aux = trainer.device, getattr(batch, "aux", None) or {}
        there = {name: part.to(device, non_blocking=True) for name, part in aux.items()}
        target = batch.target.to(device, non_blocking=True)
        found.update(loss.denominators(target, there))
    return found


def shares(sizes: Sequence[int], rank: int = 0, world_size: int = 1, steps: int = 1) -> list[float]:
    """The weights of the losses of a rank's micro-batches, ``steps`` per optimizer step.

    ``sizes`` are the samples of all micro-batches; number i is rank ``i % world_size``'s.
    """
    per_step = world_size * steps
    totals = [sum(sizes[at : at + per_step]) for at in range(0, len(sizes), per_step)]
    own = range(rank, len(sizes), world_size)
    return [sizes[number] * world_size / totals[number // per_step] for number in own]


class LeftOutSteps:
    """Subtracts counted steps that a fused optimizer left out for a non-finite gradient.

    The verdict is read :data:`STEPS_LATER` steps later, or at the epoch's end; a learning rate
    schedule then goes on as if the step had not been. ``flag`` is 1 if the device leaves out the
    present step, else 0, a scalar on the device; None if no handler leaves steps to it. Averages of
    weights multiply their change by ``1 - flag``. ``taken_back`` counts the run's.
    """

    def __init__(self) -> None:
        self.flag: Tensor | None = None
        self.taken_back = 0
        self._waiting: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
        self._trainer: Trainer | None = None

    def attach(self, trainer: Trainer) -> None:
        """Read the remaining verdicts at each epoch's end; handlers may call it repeatedly."""
        if self._trainer is None:
            self._trainer = trainer
            trainer.add_event_handler(Events.EPOCH_COMPLETED, self.settle)

    def note(self, flag: Tensor) -> None:
        """Note the verdict (a scalar on the device, 1 or 0) of a step that is not counted yet."""
        self.flag = flag
        verdict = torch.empty_like(flag, device="cpu", pin_memory=flag.is_cuda)
        verdict.copy_(flag, non_blocking=True)
        computed = None
        if flag.is_cuda:
            computed = torch.cuda.Event()
            computed.record()
        self._waiting.append((verdict, computed))
        if len(self._waiting) > STEPS_LATER:
            self._take_back()

    def open_verdicts(self) -> tuple[Tensor, ...]:
        """The verdicts of the last steps, not read yet; valid once the device has computed them."""
        return tuple(verdict for verdict, _ in self._waiting)

    def _take_back(self) -> None:
        verdict, computed = self._waiting.popleft()
        if computed is not None:
            computed.synchronize()
        # NumPy reads the memory without an operation of torch.
        if float(verdict.numpy()) and self._trainer is not None:
            self._trainer.state.optimizer_step -= 1
            self.taken_back += 1

    @in_phase(Phase.UPDATE)
    def settle(self) -> None:
        """Read all remaining verdicts."""
        while self._waiting:
            self._take_back()

    def state_dict(self) -> dict[str, Any]:
        """The count and the remaining verdicts; waits for the device."""
        for _, computed in self._waiting:
            if computed is not None:
                computed.synchronize()
        verdicts = [float(verdict.numpy()) for verdict, _ in self._waiting]
        return {"taken_back": self.taken_back, "verdicts": verdicts}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the count; saved verdicts are read when the saved run would have."""
        self.taken_back = state_dict["taken_back"]
        self._waiting = deque((torch.tensor(each), None) for each in state_dict["verdicts"])
