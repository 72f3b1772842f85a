"""An average of the weights at the ends of epochs."""

import torch
from ignite.engine import Events
from torch import nn

from datasets.specs import optional_whole, require_whole
from engine.checkpointing import broken_weight, preserve_rng_state
from engine.distributed import require_unsharded, sum_, world_size
from engine.eval_mode import eval_mode, swapped_weights
from engine.events import Phase
from engine.model_call import call_model
from engine.optim import WeightAverage
from engine.trainer import Trainer

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
# Izmailov et al. 2018 begin to average after three quarters of the usual budget.
START = 3 / 4


class SWA(WeightAverage):
    """Stochastic weight averaging: the mean of the weights at the ends of the later epochs.

    Each ``every_epochs`` epochs, from ``start_epoch`` on (by default the first of the last quarter
    of the budget), ``average += (weight - average) / n`` (Izmailov et al. 2018). Weights that are
    NaN or infinite are left out and announced as ``swa_skipped``.

    With ``update_norms`` the running statistics of batch norms in training mode are computed again
    for every new average, in one pass over the training loader: as
    :func:`torch.optim.swa_utils.update_bn` does, but with everything else in evaluation mode, so
    that dropout neither shifts them nor draws random numbers. Ranks average their statistics.
    """

    phase = Phase.UPDATE
    saved = ("averaged", "_average", "_statistics")

    def __init__(
        self, start_epoch: int | None = None, every_epochs: int = 1, update_norms: bool = True
    ) -> None:
        super().__init__()
        self.start_epoch = optional_whole("swa.start_epoch", start_epoch, 1)
        self.every_epochs = require_whole("swa.every_epochs", every_epochs, 1)
        self.update_norms = update_norms
        self.averaged = 0

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs; the average is saved with every checkpoint."""
        require_unsharded(trainer.model, "swa")
        self._follow(trainer)
        trainer.register_state("swa", self)
        trainer.add_event_handler(Events.STARTED, self.tell_if_never_due)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)

    def tell_if_never_due(self, trainer: Trainer) -> None:
        """Announce a notice where the run ends before the first epoch that is averaged."""
        first, last = self.first_epoch(trainer.state.max_epochs), trainer.state.max_epochs
        if first > last and not self.averaged:
            late = f"swa.start_epoch {first} is after the last epoch, {last}"
            trainer.log_event("notice", message=f"{late}: nothing is averaged")

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
            self._begin_at_weights()
            trainer.log_event("swa_started", epoch=epoch)
        else:
            average, live = list(self._average.values()), list(self._live.values())
            torch._foreach_lerp_(average, live, 1.0 / self.averaged)
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
            averaged = swapped_weights(self._model, self._live.values(), self._average.values())
            with eval_mode(self._model), preserve_rng_state(), averaged:
                for norm in norms.values():
                    norm.reset_running_stats()
                    norm.momentum = None  # the mean over all batches
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
