"""Gradients of at most a given norm."""

import math

import torch

from datasets.specs import require_range
from engine.distributed import joint_norm, to_local
from engine.events import Phase, TrainEvents
from engine.trainer import Trainer

# torch.nn.utils.clip_grad_norm_ adds it to the norm.
TORCHS_EPSILON = 1e-6


class GradientClipping:
    """Scales all gradients down together where their common L2 norm exceeds ``max_norm``.

    As :func:`torch.nn.utils.clip_grad_norm_` (Pascanu et al. 2013), but with sharded gradients too,
    and over a list of parameters made once an epoch. ``trainer.state.gradient_norm`` holds the norm
    before clipping, a tensor on the device.
    """

    phase = Phase.GRADIENTS

    def __init__(self, max_norm: float = 1.0) -> None:
        self.max_norm = require_range("gradient_clipping.max_norm", max_norm, 0, math.inf, True)

    def attach(self, trainer: Trainer) -> None:
        """Listen to whole accumulations."""
        trainer.add_event_handler(TrainEvents.GRADIENTS_READY, self)

    def __call__(self, trainer: Trainer) -> None:
        """Clip; a parameter without a gradient has no part in the norm."""
        gradients = trainer.gradients()
        if not gradients:
            return
        norm = joint_norm(gradients)
        # Dividing by 1 costs less than asking the device.
        excess = (norm + TORCHS_EPSILON).div_(self.max_norm).clamp_(min=1.0)
        torch._foreach_div_(to_local(gradients), excess)
        trainer.state.gradient_norm = norm
