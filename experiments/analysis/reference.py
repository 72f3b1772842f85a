"""How one number, or the share of samples with a property, is distributed over training samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.stats import f, fisher_exact, kstwobign, t

# The group of each sample, as text once compared.
Groups = Sequence[str] | np.ndarray
# Of larger training sets so many quantiles are kept.
MOST_VALUES = 512
# Of the bound on how alike the samples of a group are.
CONFIDENCE = 0.95
# In standard deviations; further apart no skewed distribution brings the means of two samples.
FAR_APART = 2.0


@dataclass(frozen=True)
class Difference:
    """What a new cohort's samples are like beside the training samples.

    ``new`` and ``old`` are medians, or shares; ``distance`` is the difference of means in standard
    deviations of the training samples, or that of the shares; ``spread`` the quotient of the
    distances between the quartiles, NaN of shares; ``p_value`` is of equal distributions.
    """

    new: float
    old: float
    distance: float
    spread: float
    p_value: float


@dataclass(frozen=True)
class Reference:
    """A number of each training sample: sorted values (or quantiles), and how groups are alike.

    ``alike`` is the part of the variance that may be between groups
    (:func:`intraclass_correlation`); ``effective`` independent samples would tell as much.
    """

    values: Sequence[float]
    mean: float
    std: float
    effective: float
    alike: float

    @classmethod
    def of(cls, values: np.ndarray, groups: Groups) -> Reference | None:
        """Of N values, NaN where there is none; None without two values."""
        known = np.isfinite(values)
        found = np.asarray(values, dtype=np.float64)[known]
        if len(found) < 2:
            return None
        members = np.asarray(groups, dtype=str)[known]
        alike = intraclass_correlation(found, members)
        kept = np.sort(found)
        if len(kept) > MOST_VALUES:
            kept = np.quantile(kept, np.linspace(0, 1, MOST_VALUES))
        return cls(
            kept.tolist(),
            float(found.mean()),
            float(found.std()),
            effective_samples(members, alike),
            alike,
        )

    def compare(self, values: np.ndarray, groups: Groups) -> Difference | None:
        """Hold N values of new samples, NaN where there is none, against this; None without one.

        The p-value is Kolmogorov's and Smirnov's of two samples, with as many samples as are
        effective (Stephens 1970 for few); of means that are far apart Student's, if that is
        smaller: with few groups the former has none that is small.
        """
        known = np.isfinite(values)
        if not known.any():
            return None
        new, old = np.sort(values[known]), np.array(self.values)
        effective = effective_samples(np.asarray(groups, dtype=str)[known], self.alike)
        both = np.concatenate([new, old])
        share_new, share_old = (
            np.searchsorted(each, both, side="right") / len(each) for each in (new, old)
        )
        count = math.sqrt(effective * self.effective / (effective + self.effective))
        apart = float(np.abs(share_new - share_old).max())
        distance = _quotient(float(new.mean()) - self.mean, self.std)
        p_value = float(kstwobign.sf((count + 0.12 + 0.11 / count) * apart))
        if abs(distance) >= FAR_APART:
            p_value = min(p_value, float(2 * t.sf(abs(distance) * count, self.effective - 1)))
        between = [float(np.subtract(*np.quantile(each, [0.75, 0.25]))) for each in (new, old)]
        return Difference(
            new=float(np.median(new)),
            old=float(np.median(old)),
            distance=distance,
            spread=_quotient(*between),
            p_value=p_value,
        )


@dataclass(frozen=True)
class Share:
    """The share of training samples with a property."""

    share: float
    effective: float
    alike: float

    @classmethod
    def of(cls, members: np.ndarray, groups: Groups) -> Share:
        """Of bool [N]."""
        names = np.asarray(groups, dtype=str)
        alike = intraclass_correlation(members.astype(np.float64), names)
        return cls(float(members.mean()), effective_samples(names, alike), alike)

    def compare(self, members: np.ndarray, groups: Groups) -> Difference:
        """Hold bool [N] of new samples against this: Fisher's exact test of effective samples."""
        new = float(members.mean())
        effective = effective_samples(np.asarray(groups, dtype=str), self.alike)
        table = []
        for share, count in ((new, effective), (self.share, self.effective)):
            whole = max(1, math.floor(count))
            table.append([round(share * whole), whole - round(share * whole)])
        p_value = float(fisher_exact(table)[1])
        return Difference(new, self.share, new - self.share, math.nan, p_value)


def as_plain(found: Reference | Share | None) -> Mapping[str, Any] | None:
    """In plain types, to be saved."""
    return None if found is None else asdict(found)


def intraclass_correlation(values: np.ndarray, groups: np.ndarray) -> float:
    """The largest part of the variance of values [N] that may well be between groups [N].

    The upper bound, of 95% confidence, of the intraclass correlation by one-way ANOVA (Fisher 1925;
    Shrout and Fleiss 1979): few groups tell little of how far a new one may be. From 0 to 1; 0
    where each group has one sample, or there is one group.
    """
    _, number, counts = np.unique(groups, return_inverse=True, return_counts=True)
    samples, several = len(values), len(counts)
    if several < 2 or several == samples:
        return 0.0
    means = np.bincount(number, weights=values) / counts
    within = float(np.square(values - means[number]).sum()) / (samples - several)
    between = float((counts * np.square(means - values.mean())).sum()) / (several - 1)
    usual = (samples - float(np.square(counts).sum()) / samples) / (several - 1)
    between *= float(f.ppf(CONFIDENCE, samples - several, several - 1))
    whole = between + (usual - 1) * within
    return float(np.clip((between - within) / whole, 0, 1)) if whole > 0 else 0.0


def effective_samples(groups: np.ndarray, alike: float) -> float:
    """So many independent samples have as certain a mean as these, whose groups are alike."""
    counts = np.unique(groups, return_counts=True)[1].astype(np.float64)
    return float(np.square(counts.sum()) / (counts * (1 + (counts - 1) * alike)).sum())


def _quotient(above: float, below: float) -> float:
    """NaN for 0 by 0, infinite for another number by 0."""
    if below > 0:
        return above / below
    return math.nan if above == 0 else math.copysign(math.inf, above)
