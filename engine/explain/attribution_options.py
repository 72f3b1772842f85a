"""How a prediction is explained: the methods by name, and their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets.errors import UsageError, nearest
from datasets.specs import require_whole

if TYPE_CHECKING:
    from torch import Tensor

# Functions of :mod:`engine.explain.attribution_methods`. Names only: a configuration is checked by
# them without the seconds that torch takes to import.
METHODS = (
    "integrated_gradients",
    "gradient_shap",
    "feature_ablation",
    "input_x_gradient",
    "saliency",
)
# Points of a path, or draws; rows of one forward pass; points that are replaced together.
STEPS, ROWS, WINDOW = 24, 64, 32
# The points of the path are those of Gauss-Legendre, whose cost grows with their cube.
MOST_STEPS = 10_000
SCORES = ("logit", "log_odds")


@dataclass(frozen=True)
class Options:
    """How to explain.

    ``score`` is ``logit``, the output itself, or ``log_odds``, of classes: log p / (1 - p) by
    softmax; a logit alone has a part that no probability depends on. ``baseline`` are reference
    spectra and covariates, broadcast to the inputs, zeros by default; the gradient methods use
    none. ``gradient_shap`` draws ``references``, a batch. ``steps`` are points of a path, or draws;
    ``rows`` the most samples, points or copies in one pass; ``window`` the points that
    ``feature_ablation`` replaces together, with ``per_scan`` in one scan after the other: replicate
    scans compensate for each other, so that each alone seems to matter little.
    """

    score: str = "logit"
    baseline: tuple[Tensor, Tensor] | None = None
    references: Any = None
    steps: int = STEPS
    rows: int = ROWS
    window: int = WINDOW
    per_scan: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse what is out of range."""
        for name in ("steps", "rows", "window"):
            value = require_whole(f"attribution.{name}", getattr(self, name), 1)
            object.__setattr__(self, name, value)
        if self.steps > MOST_STEPS:
            raise UsageError(f"attribution.steps must be at most {MOST_STEPS}, not {self.steps}")
        require_whole("attribution.seed", self.seed, 0)
        if self.score not in SCORES:
            choices = nearest(self.score, SCORES)
            raise UsageError(f"attribution.score: nothing is called '{self.score}'{choices}")
