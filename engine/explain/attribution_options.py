"""How a prediction is explained: the methods by name, and their settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from datasets.errors import UsageError, nearest
from engine.errors import check_whole

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
        score: What is explained of an output. ``logit``: the output as it is. ``log_odds``, of
            classes: log p / (1 - p) of the class by the softmax, its logit minus the log-sum-exp
            of the others' - for two classes the difference of the logits. Softmax knows
            differences only, so that a logit by itself holds a part that no probability depends
            on.
        baseline: Spectra and covariates that stand for "nothing", broadcast to the inputs'
            shapes; None for zeros, the mean of standardised inputs. ``gradient_shap`` draws its
            own from the references, the gradient methods have none.
        references: The samples whose scans and covariates ``gradient_shap`` draws as baselines,
            a batch; None for the explained batch itself.
        steps: Points of the path of ``integrated_gradients``, draws of ``gradient_shap``.
        rows: At most so many samples, points of their paths, or ablated copies in one pass.
        window: Points that ``feature_ablation`` replaces together.
        per_scan: Let it replace a window in one scan after the other, not in all scans at once.
            Replicate scans make up for each other, so that alone each seems to matter little.
        seed: Of the draws.

    Raises:
        UsageError: A setting is out of range.
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
            check_whole(f"attribution.{name}", getattr(self, name))
        if self.steps > MOST_STEPS:
            raise UsageError(f"attribution.steps must be at most {MOST_STEPS}, not {self.steps}")
        check_whole("attribution.seed", self.seed, 0)
        if self.score not in SCORES:
            raise UsageError(
                f"attribution.score: nothing is called '{self.score}'{nearest(self.score, SCORES)}"
            )
