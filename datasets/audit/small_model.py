"""How well one feature alone tells samples apart, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

from datasets.audit.auroc import JackknifedAuroc
from datasets.audit.contrasts import Contrast

# Of a hundred cohorts without any fault one may show an interval that leaves chance out.
FAMILY_ERROR = 0.01
CHANCE = 0.5
# A small effect by Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences": d = 0.2,
# which is an AUROC of Phi(0.2 / sqrt 2). What is weaker is told, but as a note.
SMALL_EFFECT = 0.556
# Groups mix both kinds where more than this share of the samples has the other kind beside it.
MOSTLY = 0.5
FOLDS = 5
# Below so many samples of a kind nothing is asked: no answer could be told from chance.
FEWEST = 5

Measure = Callable[[np.ndarray, "_Design"], "JackknifedAuroc | None"]


@dataclass(frozen=True)
class Prediction:
    """How well a feature alone tells a contrast's samples apart.

    Attributes:
        contrast: The one of those asked for that it tells apart best.
        value: The AUROC, 0.5 and above but for chance.
        low: Its lower bound; the bounds of all looks hold together.
        high: Its upper bound.
    """

    contrast: Contrast
    value: float
    low: float
    high: float

    @property
    def beyond_chance(self) -> bool:
        """Whether chance does not explain it."""
        return self.low > CHANCE

    @property
    def is_notable(self) -> bool:
        """Whether it is more than chance and no tiny effect either."""
        return self.beyond_chance and self.value >= SMALL_EFFECT

    @property
    def interval(self) -> tuple[float, float]:
        """The two bounds."""
        return self.low, self.high


class Examiner:
    """Asks of one feature after the other how well it tells each contrast apart.

    Numbers and yes or no rank the samples as they are, one way or the other. Categories are ranked
    by a small model, the share of members in each category, learned on some samples and judged on
    others.

    The bounds come from a jackknife and are Bonferroni-corrected for the number of looks. Where
    groups are of one kind each, as patients are, a group is the jackknife's unit: its samples are
    not independent of each other. Where they mix both kinds, as plates do, samples are compared
    with those of their own group only, so that whatever sets groups apart plays no part.

    Args:
        contrasts: What may be given away.
        groups: Groups, [N].
        looks: How many features will be asked about, at most.

    Example:
        >>> cases = Contrast("case", "control", np.arange(80) % 2 == 0)
        >>> examiner = Examiner([cases], np.arange(80), looks=1)
        >>> found = examiner.ask_numbers(np.where(cases.members, 1.0, 3.0))
        >>> found.value, found.is_notable
        (1.0, True)
    """

    def __init__(self, contrasts: Sequence[Contrast], groups: np.ndarray, looks: int) -> None:
        self.contrasts = list(contrasts)
        self.groups = np.unique(groups, return_inverse=True)[1]
        self.looks = looks

    def of_samples(self) -> Examiner:
        """The same, each sample a group of its own: for features that no two groups share."""
        return Examiner(self.contrasts, np.arange(len(self.groups)), self.looks)

    def ask_numbers(self, values: np.ndarray) -> Prediction | None:
        """Ask about numbers, float [N], NaN where there is none; such samples are left out.

        Returns:
            The contrast told apart best, or None where too few samples have a value.
        """
        known = ~np.isnan(values)
        return self._best(known, lambda members, design: _rank(values[known], members, design))

    def ask_categories(self, values: pd.Series) -> Prediction | None:
        """Ask about categories, [N]; samples without a value are left out.

        Returns:
            As :meth:`ask_numbers`.
        """
        codes, levels = pd.factorize(values)
        if len(levels) <= 2:
            return self.ask_numbers(np.where(codes < 0, np.nan, codes))
        known = codes >= 0
        return self._best(known, lambda members, design: _learn(codes[known], members, design))

    def _best(self, known: np.ndarray, measure: Measure) -> Prediction | None:
        found = []
        for contrast in self.contrasts:
            members = contrast.members[known]
            if min(members.sum(), (~members).sum()) < FEWEST:
                continue
            auroc = measure(members, _Design.of(members, self.groups[known]))
            if auroc is not None:
                found.append(self._bound(contrast, auroc))
        return max(found, key=lambda prediction: prediction.low, default=None)

    def _bound(self, contrast: Contrast, auroc: JackknifedAuroc) -> Prediction:
        tail = FAMILY_ERROR / (self.looks * len(self.contrasts)) / 2
        reach = float(stats.t.isf(tail, auroc.units - 1)) * auroc.error
        low, high = max(auroc.value - reach, 0.0), min(auroc.value + reach, 1.0)
        return Prediction(contrast, auroc.value, low, high)


@dataclass(frozen=True)
class _Design:
    """Which samples may be compared and which are independent of each other, int [N] from 0 on."""

    blocks: np.ndarray
    units: np.ndarray

    @classmethod
    def of(cls, members: np.ndarray, groups: np.ndarray) -> _Design:
        numbers = np.unique(groups, return_inverse=True)[1]
        shares = np.bincount(numbers, weights=members) / np.bincount(numbers)
        mixed = ((shares > 0) & (shares < 1))[numbers]
        if mixed.mean() > MOSTLY:
            return cls(numbers, np.arange(len(groups)))
        return cls(np.zeros(len(groups), dtype=np.int64), numbers)

    def within(self, folds: np.ndarray) -> _Design:
        """The same, compared only within a fold."""
        both = np.unique(self.blocks * (int(folds.max()) + 1) + folds, return_inverse=True)[1]
        return _Design(both, self.units)


def _rank(values: np.ndarray, members: np.ndarray, design: _Design) -> JackknifedAuroc | None:
    """Rank the samples by the values as they are, or the other way round."""
    found = JackknifedAuroc.measure(values, members, design.blocks, design.units)
    if found is not None and found.value < CHANCE:
        return JackknifedAuroc(1 - found.value, found.error, found.units)
    return found


def _learn(levels: np.ndarray, members: np.ndarray, design: _Design) -> JackknifedAuroc | None:
    """Rank each fold's samples by the shares of members that the other folds have at their level.

    The folds' models share what they learn from, so that their areas err together. The error is
    widened for that as in Nadeau and Bengio 2003, "Inference for the Generalization Error": the
    variance of a mean of k folds by 1 + k * (n_test / n_train) = 1 + k / (k - 1).
    """
    folds = _make_folds(members, design.units)
    size = int(levels.max()) + 1
    scores = np.zeros(len(members))
    for fold in range(FOLDS):
        learn, here = folds != fold, folds == fold
        counts = np.bincount(levels[learn], minlength=size)
        hits = np.bincount(levels[learn], weights=members[learn], minlength=size)
        # As if each level had one more sample, of the average kind: none is sure of itself.
        scores[here] = ((hits + members[learn].mean()) / (counts + 1))[levels[here]]
    judged = design.within(folds)
    found = JackknifedAuroc.measure(scores, members, judged.blocks, judged.units)
    if found is None:
        return None
    widening = (1 + FOLDS / (FOLDS - 1)) ** 0.5
    return JackknifedAuroc(found.value, found.error * widening, found.units)


def _make_folds(members: np.ndarray, units: np.ndarray) -> np.ndarray:
    """Give each sample the number of its fold, [N]: units stay whole, kinds are balanced."""
    shares = np.bincount(units, weights=members) / np.bincount(units)
    # Units alike in their share, in random order, are dealt out one after the other.
    order = np.lexsort((np.random.default_rng(0).random(len(shares)), shares))
    fold_of = np.empty(len(shares), dtype=np.int64)
    fold_of[order] = np.arange(len(shares)) % FOLDS
    return fold_of[units]
