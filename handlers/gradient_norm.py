"""The norm of the gradients, as a metric of each epoch."""

import torch
from ignite.engine import Events
from torch import Tensor

from datasets.specs import require_whole
from engine.distributed import joint_norm
from engine.events import Phase, TrainEvents, in_phase
from engine.protocols import SavedAttributes
from engine.trainer import Trainer

MEAN, LARGEST = "train/grad_norm", "train/grad_norm_max"


class GradientNorm(SavedAttributes):
    """Measures the common L2 norm of all gradients, before clipping, each ``every`` steps.

    At an epoch's end ``state.metrics["train/grad_norm"]`` is the mean over the measured steps and
    ``train/grad_norm_max`` the largest. Norms that are not finite, as fp16's loss scaling causes
    now and then, are left out and announced as ``gradients_not_finite``. Both are NaN where none
    was finite, and absent where no step was measured.
    """

    phase = Phase.GUARD
    saved = ("_norms",)  # of an unfinished epoch

    def __init__(self, every: int = 1) -> None:
        self.every = require_whole("gradient_norm.every", every, 1)
        self._norms: list[Tensor] = []

    def attach(self, trainer: Trainer) -> None:
        """Listen to whole accumulations and to the ends of epochs."""
        self._device = trainer.device
        trainer.register_state("gradient_norm", self)
        trainer.provide_metrics(MEAN, LARGEST)
        trainer.add_event_handler(TrainEvents.GRADIENTS_READY, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.report)

    def __call__(self, trainer: Trainer) -> None:
        """Measure a step; a parameter without a gradient has no part in it."""
        if trainer.state.optimizer_step % self.every:
            return
        gradients = trainer.gradients()
        if gradients:
            trainer.state.gradient_norm = norm = joint_norm(gradients)
            self._norms.append(norm)

    @in_phase(Phase.MEASURE)
    def report(self, trainer: Trainer) -> None:
        """Turn the epoch's norms into metrics."""
        metrics = trainer.state.metrics
        metrics.pop(MEAN, None)
        metrics.pop(LARGEST, None)
        if not self._norms:
            return
        norms = torch.stack(self._norms).double().cpu()
        self._norms = []
        finite = norms[torch.isfinite(norms)]
        metrics[MEAN] = float(finite.mean())
        metrics[LARGEST] = float(finite.max()) if len(finite) else float("nan")
        if len(finite) < len(norms):
            trainer.log_event(
                "gradients_not_finite",
                epoch=trainer.state.epoch,
                steps=len(norms) - len(finite),
                of=len(norms),
            )
