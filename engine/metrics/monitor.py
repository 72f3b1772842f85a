"""Following one metric over the epochs: is this value better than the best so far?"""

from __future__ import annotations

import math
from difflib import get_close_matches
from typing import Any

from datasets.errors import UsageError, nearest
from engine.metrics.tasks import better_when, known_metrics

MODES = ("max", "min")


class Monitor:
    """Reads a metric after an epoch and compares it.

    Args:
        name: The metric in ``trainer.state.metrics``, such as ``val/auroc``.
        mode: ``max`` where larger is better, ``min`` where smaller is; None for what
            :func:`engine.metrics.better_when` says of the metric.
        user: Who asks, for error messages.

    Raises:
        UsageError: ``mode`` is neither, or it is not known of the metric.

    Example:
        >>> Monitor("val/loss", "min", "early_stopping").is_better(0.5, 0.6)
        True
    """

    def __init__(self, name: str, mode: str | None, user: str) -> None:
        if mode is None:
            mode = better_when(name)
        if mode is None:
            subset, slash, metric = name.rpartition("/")
            close = get_close_matches(metric, [*known_metrics(), "loss"], n=1)
            hint = f"; did you mean '{subset}{slash}{close[0]}'?" if close else ""
            raise UsageError(
                f"{user}.monitor: of '{name}' it is not known whether larger is better: set "
                f"{user}.mode to max or min{hint}"
            )
        if mode not in MODES:
            raise UsageError(f"{user}.mode: '{mode}' is neither max nor min{nearest(mode, MODES)}")
        self.name, self.mode, self.user = name, mode, user

    def attach(self, trainer: Any) -> None:
        """Have the name checked when training starts."""
        trainer.monitor_metric(self.name, self.user)

    def read(self, trainer: Any) -> float | None:
        """This epoch's value as a float; None where it was not measured in this epoch."""
        value = trainer.state.metrics.get(self.name)
        return None if value is None else float(value)

    def is_better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Whether ``value`` beats ``best`` by more than ``min_delta``; NaN never does.

        The first comparable value beats None (nothing yet). Infinities compare as numbers.
        """
        if math.isnan(value):
            return False
        if best is None or math.isnan(best):
            return True
        gain = value - best if self.mode == "max" else best - value
        return gain > min_delta
