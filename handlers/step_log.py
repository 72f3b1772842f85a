"""Loss terms, learning rate and gradient norm of single optimizer steps, for the logs."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from datasets.errors import UsageError
from datasets.specs import require_whole
from engine.distributed import gather, is_main_process, joint_norm, map_tensors, world_size
from engine.events import Phase, TrainEvents
from engine.metrics import TOTAL, makes, terms_of
from engine.protocols import SavedAttributes
from engine.trainer import Trainer

# Most steps held on the device, each with a scalar per loss term.
HELD_STEPS = 500


# Of a micro-batch: term -> its share of the step, and its value.
Losses = Mapping[str, tuple[float | Tensor, Tensor]]


class StepLog(SavedAttributes):
    """Announces ``step`` with the loss terms, learning rate and gradient norm of optimizer steps.

    Each of ``every`` so many steps is announced, 0 for none. The loss terms are means over the
    step's micro-batches and all ranks, weighted as for the gradient. ``lr`` is the largest learning
    rate of the step. ``gradient_norm`` is the common L2 norm before clipping. A step that a handler
    vetoed, or that the device left out, has no line.

    The values stay on the device and are read and announced together: at the end of an epoch and of
    the run, and after every 500 logged steps. A checkpoint carries the steps not yet announced;
    with another world size than saved within an epoch they are lost.
    """

    # After clipping, before metrics, logs and checkpoints.
    phase = Phase.UPDATE
    saved = ("_rows",)
    of_each_process = True
    # Older checkpoints lack it.
    state_may_be_missing = True

    def __init__(self, every: int = 1) -> None:
        self.every = require_whole("step_log.every", every, 0)
        self._trainer: Trainer
        self._losses: list[Losses] = []  # of this step's micro-batches
        self._last_norm: Tensor | None = None
        self._step: dict[str, Any] | None = None  # about to be taken
        self._held: list[dict[str, Any]] = []  # with tensors on the device
        self._rows: list[dict[str, Any]] = []  # with numbers

    def attach(self, trainer: Trainer) -> None:
        """Listen to optimizer steps, and to the ends of epochs and of the run."""
        self._trainer = trainer
        trainer.register_state("step_log", self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.tell)
        trainer.add_event_handler(Events.COMPLETED, self.tell)
        if self.every:
            trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
            trainer.add_event_handler(TrainEvents.BACKWARD_COMPLETED, self.keep_losses)
            trainer.add_event_handler(TrainEvents.GRADIENTS_READY, self)
            trainer.add_event_handler(TrainEvents.OPTIMIZER_STEPPED, self.keep_step)
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self.tell_where_due)

    def start_epoch(self) -> None:
        """Forget the losses of an unfinished step."""
        self._losses = []

    def keep_losses(self, trainer: Trainer) -> None:
        """Hold a micro-batch's losses, and their shares of the step."""
        state, shares = trainer.state, trainer.step_shares
        # As many counted steps may still be taken back.
        open_steps = len(trainer.left_out_steps.open_verdicts())
        if (state.optimizer_step + 1) % self.every <= open_steps:
            losses = state.losses.items()
            self._losses.append({n: (shares.share_of(n, state), loss) for n, loss in losses})

    def __call__(self, trainer: Trainer) -> None:
        """Keep the learning rate and the gradient norm of the coming step."""
        state = trainer.state
        losses, self._losses = self._losses, []
        norm = getattr(state, "gradient_norm", None)
        if norm is self._last_norm:  # of an earlier step: no handler measured this one
            norm = None
        else:
            self._last_norm = norm
        self._step = None
        if losses and not state.skip_step:
            gradients = trainer.gradients()
            if norm is None and gradients:
                norm = joint_norm(gradients)
            rates = [group["lr"] for group in trainer.optimizer.param_groups]
            # Nothing waits for rates that are tensors.
            rate = torch.stack(rates).amax() if isinstance(rates[0], Tensor) else max(rates)
            self._step = {"lr": rate, "gradient_norm": norm, "losses": losses}

    def keep_step(self, trainer: Trainer) -> None:
        """Hold a step that was made."""
        if self._step is not None:
            state = trainer.state
            place = {k: getattr(state, k) for k in ("epoch", "iteration", "optimizer_step")}
            verdicts = trainer.left_out_steps.open_verdicts()
            self._held.append({**place, **self._step, "verdicts": verdicts})
            self._step = None

    def tell_where_due(self) -> None:
        """Announce the held steps before they take much memory."""
        if len(self._held) + len(self._rows) >= HELD_STEPS:
            self.tell()

    def tell(self) -> None:
        """Announce each step that is held. Collective."""
        self._read()
        if not self._rows:
            return
        parts, self._rows = gather(self._rows), []
        if not is_main_process():
            return
        for of_each in zip(*parts, strict=True):
            means = _means(of_each, self._trainer.total)
            self._trainer.log_event("step", **(of_each[0] | {"losses": means}))

    def close(self) -> None:
        """Announce the held steps where the run ended in an exception; a single process only."""
        if world_size() == 1 and (self._held or self._rows):
            # A broken device or a full disk must not hide the exception.
            with contextlib.suppress(UsageError, RuntimeError):
                self.tell()

    def state_dict(self) -> dict[str, Any]:
        """The steps that are not announced yet."""
        self._read()
        return super().state_dict()

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue with the steps that were not announced."""
        self.reset()
        super().load_state_dict(state_dict)

    def reset(self) -> None:
        """Forget all steps that are held."""
        self._losses, self._step, self._held, self._rows = [], None, [], []

    def _read(self) -> None:
        """Read all held values from the device at once."""
        held, self._held = self._held, []
        verdicts = [step.pop("verdicts") for step in held]
        tensors: list[Tensor] = []
        map_tensors(held, tensors.append)
        together = [tensor.detach().to(self._trainer.device) for tensor in tensors]
        numbers = iter(torch.stack(together).tolist() if together else [])
        rows = map_tensors(held, lambda _: next(numbers))
        for row, flags in zip(rows, verdicts, strict=True):
            # The flags are computed before the values read above.
            left_out = [bool(flag) for flag in flags]
            row["optimizer_step"] -= sum(left_out)
            if left_out[-1:] != [True] and row["optimizer_step"] % self.every == 0:
                self._rows.append(row)


def _means(
    rows: tuple[dict[str, Any], ...], total: Callable[[Mapping[str, Any]], Any] | None
) -> dict[str, float]:
    """The loss terms of one step, over the micro-batches of all ranks that have them."""
    parts: dict[str, list[tuple[float, float]]] = {}
    for row in rows:
        for of_one in row["losses"]:
            for name, (share, loss) in of_one.items():
                parts.setdefault(name, []).append((share, loss))
    means = {
        name: sum(share * loss for share, loss in pairs) / sum(share for share, _ in pairs)
        for name, pairs in parts.items()
    }
    counts = {len(pairs) for pairs in parts.values()}
    if total is not None and len(means) > 1 and len(counts) == 1 and counts != {1}:
        each = {n: torch.tensor([x for _, x in p], dtype=torch.float64) for n, p in parts.items()}
        if makes(total, each):  # terms may have other denominators than their total
            means[TOTAL] = float(total(terms_of(means)))
    return means
