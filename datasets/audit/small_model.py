"""How well one feature alone separates the classes: AUROC with a jackknife interval."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy import stats

from datasets.audit.findings import Finding, Level
from datasets.messages import Message

if TYPE_CHECKING:
    from datasets.cohort import Cohort

# One of a hundred cohorts without any fault may have an interval that excludes chance.
FAMILY_ERROR = 0.01
CHANCE = 0.5
# A small effect by Cohen 1988, "Statistical Power Analysis for the Behavioral Sciences": d = 0.2,
# which is an AUROC of Phi(0.2 / sqrt 2). Weaker effects are notes.
SMALL_EFFECT = 0.556
# Groups are mixed where more than this share of the samples has the other class in its group.
MOSTLY = 0.5
FOLDS = 5
# With fewer samples of a class nothing can be distinguished from chance.
FEWEST = 5

# From members, blocks and units, as of JackknifedAuroc.measure.
Measure = Callable[[np.ndarray, np.ndarray, np.ndarray], "JackknifedAuroc | None"]


@dataclass(frozen=True, eq=False)
class Contrast:
    """One class of samples (``members``, bool [N], ``name``) against all ``other`` ones.

    ``target`` is what is known once they are told apart.
    """

    name: str
    other: str
    members: np.ndarray
    target: str = Message("the label")

    def compare(
        self, values: np.ndarray, digits: str, average: Callable[[np.ndarray], Any] = np.nanmean
    ) -> tuple[str, str, str, str]:
        """Averages of both classes, of numbers or flags, [N], each before its class's name."""
        inside, outside = (average(values[m]) for m in (self.members, ~self.members))
        return f"{inside:{digits}}", self.name, f"{outside:{digits}}", self.other


def make_contrasts(cohort: Cohort) -> list[Contrast]:
    """Contrasts of the targets: a class against the rest, a label, values above the median."""
    names, targets = cohort.class_names, cohort.targets
    if cohort.task == "binary":
        return [Contrast(names[1], names[0], targets == 1)]
    found = []
    for number, name in enumerate(names):
        if cohort.task == "multiclass":
            target = Message("the label ({} against the rest)", name)
            found.append(Contrast(name, Message("the rest"), targets == number, target))
        elif cohort.task == "multilabel":
            members = targets[:, number] == 1
            found.append(Contrast(f"{name}=1", f"{name}=0", members, Message("label {}", name)))
        else:
            middle = float(np.median(targets[:, number]))
            above = Message("{} above {}", name, f"{middle:.4g}")
            below = Message("{} up to {}", name, f"{middle:.4g}")
            found.append(Contrast(above, below, targets[:, number] > middle, name))
    return found


@dataclass(frozen=True)
class JackknifedAuroc:
    """AUROC over pairs of one block, its standard error, and the number of independent units."""

    value: float
    error: float
    units: int

    @classmethod
    def measure(
        cls, scores: np.ndarray, members: np.ndarray, blocks: np.ndarray, units: np.ndarray
    ) -> JackknifedAuroc | None:
        """Measure it, with a delete-one-unit jackknife error; None where it cannot be measured.

        The jackknife (Efron and Tibshirani 1993, "An Introduction to the Bootstrap", chapter 11)
        agrees with DeLong's variance for units of one sample. As a perfect ranking has no jackknife
        variance, the error is at least what one unit of the rarer class, ranked wrongly throughout,
        would change.

        ``scores`` [N] are higher where a sample is more likely a member. Only samples of one block
        are compared; ``units`` are independent, each in one block; both are int [N], from 0 on.
        """
        in_block, against = _count(blocks, members), _count(blocks, ~members)
        pairs = float((in_block * against).sum())
        own, own_others = _count(units, members), _count(units, ~members)
        scarcer = int(min((own > 0).sum(), (own_others > 0).sum()))
        if not pairs or len(own) < 2:
            return None
        wins = _wins(scores, members, blocks)
        won = float(wins[members].sum())
        # Left out with a unit: its members' and its others' pairs; those within it count once.
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
    return np.bincount(numbers[chosen], minlength=int(numbers.max()) + 1).astype(np.float64)


def _wins(scores: np.ndarray, members: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """For a member how many others of its block rank below it; for another how many members above.

    Ties count half, by midranks (Sun and Xu 2014, "Fast Implementation of DeLong's Algorithm").
    """
    below = _midranks(scores, blocks) - _midranks(scores, 2 * blocks + members)
    return np.where(members, below, _count(blocks, members)[blocks] - below)


def _midranks(scores: np.ndarray, blocks: np.ndarray) -> np.ndarray:
    """Ranks from 1 on within each block; ties share their mean."""
    return pd.Series(scores).groupby(blocks).rank().to_numpy()


@dataclass(frozen=True)
class Prediction:
    """How well a feature separates a contrast: AUROC, and bounds simultaneous over all looks."""

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
        """Whether it is beyond chance and no tiny effect."""
        return self.beyond_chance and self.value >= SMALL_EFFECT

    def finding(self, name: str, phrase: str, *values: Any, may_warn: bool = True) -> Finding:
        """A finding of it: a warning where it is notable and may warn, otherwise a note."""
        level: Level = "warn" if may_warn and self.is_notable else "note"
        return Finding(name, level, self.value, Message(phrase, *values), (self.low, self.high))


def strongest(found: Iterable[Prediction | None]) -> Prediction | None:
    """The prediction of the highest lower bound; None where there is none."""
    given = [prediction for prediction in found if prediction is not None]
    return max(given, key=lambda prediction: prediction.low, default=None)


class Examiner:
    """Measures for one feature after the other how well it separates each contrast.

    Numbers and flags rank the samples directly, in either direction. Categories are ranked by the
    share of members in each category, cross-validated.

    The bounds come from a jackknife and are Bonferroni-corrected for ``looks``, the most features
    asked about. Where ``groups``, [N], are of one class each, as patients are, a group is the
    jackknife's unit. Where they mix both classes, as plates do, samples are compared within their
    own group only, so that group effects play no part.
    """

    def __init__(self, contrasts: Sequence[Contrast], groups: np.ndarray, looks: int) -> None:
        self.contrasts = list(contrasts)
        self.groups = np.unique(groups, return_inverse=True)[1]
        self.looks = looks

    def of_samples(self) -> Examiner:
        """The same, each sample a group of its own: for features that no two groups share."""
        return Examiner(self.contrasts, np.arange(len(self.groups)), self.looks)

    def ask_numbers(self, values: np.ndarray) -> Prediction | None:
        """The contrast that numbers [N], NaN unknown, separate best; None if too few are known."""
        known = ~np.isnan(values)
        return self._best(known, lambda *design: _rank(values[known], *design))

    def ask_categories(self, values: pd.Series) -> Prediction | None:
        """Ask about categories, [N]; see :meth:`ask_numbers`."""
        codes, levels = pd.factorize(values)
        if len(levels) <= 2:
            return self.ask_numbers(np.where(codes < 0, np.nan, codes))
        known = codes >= 0
        return self._best(known, lambda *design: _learn(codes[known], *design))

    def _best(self, known: np.ndarray, measure: Measure) -> Prediction | None:
        found = []
        tail = FAMILY_ERROR / (self.looks * len(self.contrasts)) / 2
        for contrast in self.contrasts:
            members = contrast.members[known]
            if min(members.sum(), (~members).sum()) < FEWEST:
                continue
            auroc = measure(members, *_design(members, self.groups[known]))
            if auroc is not None:
                reach = float(stats.t.isf(tail, auroc.units - 1)) * auroc.error
                low, high = max(auroc.value - reach, 0.0), min(auroc.value + reach, 1.0)
                found.append(Prediction(contrast, auroc.value, low, high))
        return strongest(found)


def _design(members: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Blocks of comparable samples and independent units, int [N] from 0 on."""
    numbers = np.unique(groups, return_inverse=True)[1]
    shares = np.bincount(numbers, weights=members) / np.bincount(numbers)
    mixed = ((shares > 0) & (shares < 1))[numbers]
    if mixed.mean() > MOSTLY:
        return numbers, np.arange(len(groups))
    return np.zeros(len(groups), dtype=np.int64), numbers


def _rank(
    values: np.ndarray, members: np.ndarray, blocks: np.ndarray, units: np.ndarray
) -> JackknifedAuroc | None:
    found = JackknifedAuroc.measure(values, members, blocks, units)
    return (
        found if found is None or found.value >= CHANCE else replace(found, value=1 - found.value)
    )


def _learn(
    levels: np.ndarray, members: np.ndarray, blocks: np.ndarray, units: np.ndarray
) -> JackknifedAuroc | None:
    """Rank each fold's samples by the shares of members that the other folds have at their level.

    The folds' models share training samples, so that their areas err together. The error is widened
    as in Nadeau and Bengio 2003, "Inference for the Generalization Error": the variance of a mean
    of k folds by 1 + k * (n_test / n_train) = 1 + k / (k - 1).
    """
    # Units stay whole: sorted by share and then at random, they are dealt to the folds in turn.
    shares = np.bincount(units, weights=members) / np.bincount(units)
    order = np.lexsort((np.random.default_rng(0).random(len(shares)), shares))
    fold_of = np.empty(len(shares), dtype=np.int64)
    fold_of[order] = np.arange(len(shares)) % FOLDS
    folds = fold_of[units]
    size = int(levels.max()) + 1
    scores = np.zeros(len(members))
    for fold in range(FOLDS):
        learn, here = folds != fold, folds == fold
        counts = np.bincount(levels[learn], minlength=size)
        hits = np.bincount(levels[learn], weights=members[learn], minlength=size)
        # As if each level had one more average sample: shrinks small levels.
        scores[here] = ((hits + members[learn].mean()) / (counts + 1))[levels[here]]
    # Samples are compared within a fold only.
    blocks = np.unique(blocks * FOLDS + folds, return_inverse=True)[1]
    found = JackknifedAuroc.measure(scores, members, blocks, units)
    return found and replace(found, error=found.error * (1 + FOLDS / (FOLDS - 1)) ** 0.5)
