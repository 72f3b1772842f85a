"""An area under the ROC curve of samples that come in blocks and units, and how sure it is."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class JackknifedAuroc:
    """An AUROC over pairs of samples of the same block.

    Attributes:
        value: The share of pairs that are ranked rightly, a tie counting half.
        error: Its standard error.
        units: How many independent units it rests on.
    """

    value: float
    error: float
    units: int

    @classmethod
    def measure(
        cls, scores: np.ndarray, members: np.ndarray, blocks: np.ndarray, units: np.ndarray
    ) -> JackknifedAuroc | None:
        """Measure it, and its error by leaving out one unit after the other.

        The jackknife (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11)
        tells how far the area would move had other units been sampled; for units of one sample
        it comes near DeLong's variance. The area of a perfect ranking does not move at all, so
        that its error is taken to be no less than what one unit of the scarcer kind, ranked
        wrongly throughout, would change.

        Args:
            scores: Higher where a sample is more likely a member, [N].
            members: Bool [N].
            blocks: Only samples of one block are compared, int [N], from 0 on.
            units: What is independent of each other, int [N], from 0 on; each in one block.

        Returns:
            None where no block, or but one unit, holds both kinds.
        """
        in_block, against = _count(blocks, members), _count(blocks, ~members)
        pairs = float((in_block * against).sum())
        own, own_others = _count(units, members), _count(units, ~members)
        scarcer = int(min((own > 0).sum(), (own_others > 0).sum()))
        if not pairs or len(own) < 2:
            return None
        wins = _wins(scores, members, blocks)
        won = float(wins[members].sum())
        # What goes with a unit: its members' pairs and its others'; those within it count once.
        lost = np.bincount(units, weights=wins)
        facing = np.where(members, against[blocks], in_block[blocks])
        lost_pairs = np.bincount(units, weights=facing)
        if (own * own_others).any():
            within = np.where(members, _wins(scores, members, units), 0.0)
            lost -= np.bincount(units, weights=within)
            lost_pairs -= own * own_others
        left = pairs - lost_pairs
        if not (left > 0).all():
            return None
        without = (won - lost) / left
        count = len(without)
        variance = (count - 1) / count * float(((without - without.mean()) ** 2).sum())
        return cls(won / pairs, max(variance**0.5, 1 / scarcer), count)


def _count(numbers: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """How many chosen samples each block or unit holds, by its number."""
    return np.bincount(numbers[chosen], minlength=int(numbers.max()) + 1).astype(np.float64)


def _wins(scores: np.ndarray, members: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Of a member how many others of its block rank below it; of another how many members above.

    Ties count half; by midranks, as in Sun and Xu 2014, "Fast Implementation of DeLong's
    Algorithm".
    """
    below = _midranks(scores, blocks) - _midranks(scores, 2 * blocks + members)
    return np.where(members, below, _count(blocks, members)[blocks] - below)


def _midranks(scores: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Ranks from 1 on within each block; those that are tied share the mean of theirs."""
    order = np.lexsort((scores, blocks))
    new_block = np.append(True, np.diff(blocks[order]) != 0)
    new_run = new_block | np.append(True, np.diff(scores[order]) != 0)
    starts = np.flatnonzero(new_run)
    ends = np.append(starts[1:], len(order))
    block_start = np.maximum.accumulate(np.where(new_block, np.arange(len(order)), 0))
    ranks = np.empty(len(order))
    ranks[order] = ((starts + ends + 1) / 2)[np.cumsum(new_run) - 1] - block_start
    return ranks
