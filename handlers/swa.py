"""An average of the weights at the ends of epochs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from datasets.specs import require_whole
from engine.checkpointing import broken_weight, preserve_rng_state
from engine.distributed import require_unsharded, sum_, world_size
from engine.eval_mode import eval_mode, swapped_weights
from engine.events import Phase
from engine.model_call import call_model

if TYPE_CHECKING:
    from engine.trainer import Trainer

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Izmailov et al. 2018 begin to average after three quarters of the usual budget.
START = 3 / 4


class SWA:
    """Averages the weights of the later epochs, each with the same say.

    Stochastic weight averaging (Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima
    and Better Generalization"): at an epoch's end, from ``start_epoch`` on, ``average += (weight
    - average) / n`` for every floating point parameter. Weights that are NaN or infinite are
    passed over, which is announced as ``swa_skipped``.

    The running statistics of batch norms belong to the weights they were gathered with. With
    ``update_norms`` they are computed anew for the average, whenever it has changed, in one pass
    over the training loader: as :func:`torch.optim.swa_utils.update_bn` does it, but with all
    else in evaluation mode, so that dropout neither shifts them nor draws random numbers. All
    random streams are left as they were. Norms that are in evaluation mode (frozen ones) keep
    their statistics. Without batch norms there is no pass. Of several processes each goes over its
    own batches, and the mean of what they find counts. All other buffers, and without
    ``update_norms`` those of the norms too, are not averaged: the averaged model uses the live
    ones' values, and what happens to them meanwhile is undone.

    Args:
        start_epoch: The first epoch whose weights are averaged; by default the first of the last
            quarter of the budget.
        every_epochs: Epochs from one set of weights in the average to the next.
        update_norms: Whether to compute batch norms' statistics anew.

    Raises:
        UsageError: A number is less than 1.

    Example:
        >>> SWA().first_epoch(max_epochs=20)
        16
    """

    phase = Phase.UPDATE

    def __init__(
        self, start_epoch: int | None = None, every_epochs: int = 1, update_norms: bool = True
    ) -> None:
        if start_epoch is not None:
            start_epoch = require_whole("swa.start_epoch", start_epoch, 1)
        self.start_epoch = start_epoch
        self.every_epochs = require_whole("swa.every_epochs", every_epochs, 1)
        self.update_norms = update_norms
        self.averaged = 0
        self._model: nn.Module
        self._names: list[str] = []
        self._live: list[Tensor] = []
        self._average: list[Tensor] = []
        self._statistics: dict[str, Tensor] = {}  # buffers of norms that go with the average
        self._in_place = False

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs; the average is saved with every checkpoint."""
        require_unsharded(trainer.model, "swa")
        self._model = trainer.model
        floating = [(n, p) for n, p in self._model.named_parameters() if p.is_floating_point()]
        self._names = [name for name, _ in floating]
        self._live = [parameter for _, parameter in floating]
        self._average = [parameter.detach().clone() for parameter in self._live]
        trainer.register_state("swa", self)
        trainer.add_event_handler(Events.STARTED, self.tell_if_never_due)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def tell_if_never_due(self, trainer: Trainer) -> None:
        """Announce a notice where the run ends before the first epoch that is averaged."""
        first, last = self.first_epoch(trainer.state.max_epochs), trainer.state.max_epochs
        if first > last and not self.averaged:
            message = (
                f"swa.start_epoch {first} is after the last epoch, {last}: nothing is averaged"
            )
            trainer.log_event("notice", message=message)

    def first_epoch(self, max_epochs: int) -> int:
        """The first epoch whose weights are averaged."""
        return int(START * max_epochs) + 1 if self.start_epoch is None else self.start_epoch

    @torch.no_grad()
    def __call__(self, trainer: Trainer) -> None:
        """Add an epoch's weights, where it is due."""
        epoch = trainer.state.epoch
        since = epoch - self.first_epoch(trainer.state.max_epochs)
        if since < 0 or since % self.every_epochs:
            return
        broken = broken_weight(self._model)
        if broken is not None:
            message = f"not averaged: the model's {broken} holds NaN or infinite values"
            trainer.log_event("swa_skipped", epoch=epoch, message=message)
            return
        self.averaged += 1
        if self.averaged == 1:
            torch._foreach_copy_(self._average, self._live)
            trainer.log_event("swa_started", epoch=epoch)
        else:
            torch._foreach_lerp_(self._average, self._live, 1.0 / self.averaged)
        if self.update_norms:
            self._update_norms(trainer)

    def _update_norms(self, trainer: Trainer) -> None:
        """Gather the norms' statistics under the average."""
        named = self._model.named_modules()
        norms = {n: m for n, m in named if isinstance(m, BATCH_NORMS) and m.training}
        norms = {name: norm for name, norm in norms.items() if norm.running_mean is not None}
        if not norms:
            return
        momenta = {norm: norm.momentum for norm in norms.values()}
        if hasattr(trainer.data_sampler, "resume_at"):  # it may have begun in the middle
            trainer.data_sampler.resume_at(trainer.state.epoch, 0)
        try:
            with (
                eval_mode(self._model),
                preserve_rng_state(),
                swapped_weights(self._model, self._live, self._average),
            ):
                for norm in norms.values():
                    norm.reset_running_stats()
                    norm.momentum = None  # all batches have the same say
                    norm.training = True
                for batch in trainer.state.dataloader:
                    batch = batch.to(trainer.device, non_blocking=True)
                    with trainer.precision.autocast():
                        call_model(self._model, batch)
                self._statistics = {
                    f"{name}.{buffer}": value.clone()
                    for name, norm in norms.items()
                    for buffer, value in norm.named_buffers()
                }
                for value in self._statistics.values():
                    if value.is_floating_point():
                        sum_(value).div_(world_size())
        finally:
            for norm, momentum in momenta.items():
                norm.momentum = momentum

    @contextmanager
    def averaged_weights(self) -> Iterator[None]:
        """A context in which the model holds the averaged weights; the live ones come back.

        They come back whatever happens in it, an exception too, and so do the buffers. Before
        the first averaging the model stays as it is.

        Raises:
            RuntimeError: The averaged weights are in place already.
        """
        if self._in_place:
            raise RuntimeError("the averaged weights are in place already")
        if not self.averaged:
            yield
            return
        self._in_place = True
        try:
            with swapped_weights(self._model, self._live, self._average):
                buffers = dict(self._model.named_buffers())
                with torch.no_grad():
                    for name, value in self._statistics.items():
                        buffers[name].copy_(value)
                yield
        finally:
            self._in_place = False

    def state_dict(self) -> dict[str, Any]:
        """The average by parameter, of how many it is, and the norms' statistics that go with it.

        Raises:
            RuntimeError: Asked for while the model holds the averaged weights.
        """
        if self._in_place:
            raise RuntimeError("the averaged weights are in the model: leave their context first")
        return {
            "averaged": self.averaged,
            "average": dict(zip(self._names, self._average, strict=True)) if self.averaged else {},
            "statistics": dict(self._statistics),
        }

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue a saved average.

        Raises:
            ValueError: It is the average of another model.
        """
        saved = state_dict["average"]
        if state_dict["averaged"]:
            for name, average in zip(self._names, self._average, strict=True):
                if name not in saved or saved[name].shape != average.shape:
                    found = list(saved[name].shape) if name in saved else "nothing"
                    raise ValueError(
                        f"the average of {name} should have shape {list(average.shape)}, "
                        f"found {found}"
                    )
            for name, average in zip(self._names, self._average, strict=True):
                average.copy_(saved[name])
        buffers = dict(self._model.named_buffers())
        if unknown := sorted({*saved, *state_dict["statistics"]} - {*self._names, *buffers}):
            raise ValueError(f"the model has no tensor {unknown[0]}")
        self._statistics = {
            name: value.to(buffers[name].device) for name, value in state_dict["statistics"].items()
        }
        self.averaged = state_dict["averaged"]
