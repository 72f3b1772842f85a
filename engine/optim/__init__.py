"""Optimizers, parameter groups, and how micro-batches make up an optimizer step."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.optim.names import OPTIMIZERS, SCHEDULES, TAKEN_BY
    from engine.optim.optimizers import (
        GroupSettings,
        build_optimizer,
        fill_momentum,
        learning_rate,
        leaves_steps_out,
        matches,
        refuse_unmatched,
        scale_learning_rate,
    )
    from engine.optim.step_shares import LeftOutSteps, StepShares
    from engine.optim.weight_average import WeightAverage
else:
    __getattr__ = lazy_exports(__name__, __file__)
