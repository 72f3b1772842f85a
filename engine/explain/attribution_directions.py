"""What a higher value of a feature speaks for, from attributions and values alone."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from scipy.stats import rankdata
from torch import Tensor

# Fewer samples, or a weaker rank correlation, and there is no direction to speak of: of 100
# samples 0.2 is what chance exceeds once in twenty times.
FEWEST_SAMPLES, WEAKEST = 8, 0.2


@dataclass(frozen=True)
class Direction:
    """Which output's score a higher value of a feature raises or lowers.

    Attributes:
        output: Its number: of the outputs that were explained the one on which the feature has
            the most influence.
        rank_correlation: Spearman's, of the feature's values and its attributions for that output;
            NaN where one of them does not vary.
        samples: How many it is of.
    """

    output: int
    rank_correlation: float
    samples: int

    @property
    def sign(self) -> int:
        """1: a higher value raises the score; -1: it lowers it; 0: neither clearly."""
        clear = abs(self.rank_correlation) >= WEAKEST  # False of NaN
        if not clear or self.samples < FEWEST_SAMPLES:
            return 0
        return 1 if self.rank_correlation > 0 else -1


def find_direction(values: Tensor, attributions: Tensor, target: Tensor) -> Direction:
    """Find what a higher value of one feature speaks for.

    An attribution's own sign says what a value spoke for in one sample; whether higher values
    speak for more is seen by how attributions go with values. The true labels have no part.

    Args:
        values: The feature's, [N].
        attributions: The feature's contribution to the score of each sample's explained output,
            [N].
        target: Those outputs, long [N].

    Example:
        >>> values = torch.arange(10.0)
        >>> found = find_direction(values, -2 * values, torch.ones(10).long())
        >>> found.output, round(found.rank_correlation, 3), found.sign
        (1, -1.0, -1)
    """
    weight = torch.zeros(int(target.max()) + 1, dtype=torch.double)
    weight.index_add_(0, target, attributions.double().abs())
    output = int(weight.argmax())
    own = target == output
    return Direction(output, _spearman(values[own], attributions[own]), int(own.sum()))


def toward_second(attributions: Tensor, target: Tensor) -> Tensor:
    """Attributions [N, ...] of two classes, where each sample's own was explained, as of class 1.

    What speaks for one of two classes speaks as much against the other.
    """
    turned = torch.where(target == 0, -1.0, 1.0).to(attributions)
    return attributions * turned.reshape(-1, *(1 for _ in attributions.shape[1:]))


def _spearman(first: Tensor, second: Tensor) -> float:
    ranks = [torch.from_numpy(rankdata(one.double().numpy())) for one in (first, second)]
    centred = [one - one.mean() for one in ranks]
    spread = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / spread) if spread > 0 else float("nan")
