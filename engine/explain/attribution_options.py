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

    Attributes:
        score: ``logit``: the output itself. ``log_odds``, of classes: log p / (1 - p) by softmax;
            a logit alone has a part that no probability depends on.
        baseline: Reference spectra and covariates, broadcast to the inputs' shapes; None for zeros,
            the mean of standardised inputs. Not used by ``gradient_shap`` and the gradient methods.
        references: A batch of samples that ``gradient_shap`` draws as baselines; None for the
            explained batch itself.
        steps: Points of the path of ``integrated_gradients``, draws of ``gradient_shap``.
        rows: Samples, points of their paths, or ablated copies in one pass, at most.
        window: Width in points of a region that ``feature_ablation`` replaces.
        per_scan: Replace a region in one scan after the other, not in all scans at once. Replicate
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
            raise UsageError(
                f"attribution.score: nothing is called '{self.score}'{nearest(self.score, SCORES)}"
            )
