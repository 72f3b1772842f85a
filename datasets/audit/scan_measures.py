"""What the audit measures of each scan, in one pass over the spectra."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from sklearn.preprocessing import normalize

from datasets.scans import iterate_chunks

if TYPE_CHECKING:
    from datasets.cohort import Cohort

# Scans, spread over the file, of which the mean scan is computed.
REFERENCE_SCANS = 2000
REFERENCE_BYTES = 64 * 2**20
# A scan's background: peaks cover fewer than three quarters of its points.
BACKGROUND_QUANTILE = 0.25
MOST_REGIONS, SMALLEST_REGION = 16, 8
# A region whose mean scan has less of a slope than this, beside the steepest, holds no peaks.
FLAT = 0.02
# A scan with less of the mean scan in a region than this share has no shift there.
TOO_FAINT = 0.2
# Scans that share one of so many keys are compared.
KEYS, MOST_KEY_BITS, FEWEST_KEY_BITS = 10, 16, 6
# Scans whose distances to unrelated scans are measured. From the fifth nearest on these are no
# copies, unless a scan occurs more than five times.
QUERIES, NEAR, FAR = 200, 5, 20
# The nearest tenth of the scans represents the densest part of the cohort.
DENSE = 0.1
# The chance that any two unrelated scans of a cohort are taken for near-identical.
ERROR = 0.01
# In any case near-identical scans have at most a fifth of the squared distance of unrelated ones,
# and at least this likeness. The smallest part of that distance between unrelated scans was 0.38 in
# simulated cohorts, and 0.29 in three measured ones.
FRACTION, LEAST_LIKENESS = 0.2, 0.85
# Bytes of a scan's digest: two of a million scans are alike by chance once in ten million audits.
DIGEST_BYTES = 8


@dataclass(frozen=True, eq=False)
class Region:
    """A stretch of the axis of n points.

    ``common`` is what all scans have there, the mean scan and a level, [n, 2]; ``solver`` finds a
    scan's share of the mean scan and of its slope, [n, 2], None without peaks.
    """

    points: slice
    common: np.ndarray
    solver: np.ndarray | None


@dataclass(frozen=True, eq=False)
class Reference:
    """What scans are compared with.

    ``regions`` together are all of the axis; the signs along ``directions``, random ones [L, B],
    make the keys; scans whose details have the likeness ``near`` or more are near-identical.
    """

    regions: list[Region]
    directions: np.ndarray
    near: float

    @classmethod
    def of(
        cls, spectra: np.ndarray, rows: np.ndarray, owner: np.ndarray, groups: np.ndarray
    ) -> Reference:
        """Computed from scans spread over the chosen rows, [M], of samples ``owner``, [M]."""
        length = spectra.shape[1]
        count = min(len(rows), REFERENCE_SCANS, max(2, REFERENCE_BYTES // (4 * length)))
        spread = np.unique(np.linspace(0, len(rows) - 1, count).astype(np.int64))
        scaled = np.concatenate([scale(chunk) for chunk in iterate_chunks(spectra, rows[spread])])
        regions = _make_regions(scaled.mean(axis=0))
        bits = KEYS * int(np.clip(np.ceil(np.log2(len(rows))), FEWEST_KEY_BITS, MOST_KEY_BITS))
        directions = np.random.default_rng(0).standard_normal((length, bits), dtype=np.float32)
        details = find_details(scaled, regions)
        near = _least_likeness(details, groups[owner[spread]], len(rows))
        return cls(regions, directions, near)

    def shifts(self, scaled: np.ndarray) -> np.ndarray:
        """By how many points scaled scans [m, L] are shifted right of the mean one, [m, W]."""
        solved = [(w.points, w.solver) for w in self.regions if w.solver is not None]
        found = np.full((len(scaled), len(solved)), np.nan)
        for number, (points, solver) in enumerate(solved):
            # To first order f(x - s) = f(x) - s f'(x).
            share, slope = (scaled[:, points] @ solver).T
            np.divide(-slope, share, out=found[:, number], where=share > TOO_FAINT)
        return found

    def keys(self, details: np.ndarray) -> np.ndarray:
        """Sign bits of details [m, L] along the directions, uint16 [m, K].

        Those of two scans differ in each bit with a chance of their angle over pi (Charikar 2002,
        "Similarity Estimation Techniques from Rounding Algorithms").
        """
        bits = (details @ self.directions > 0).reshape(len(details), KEYS, -1)
        powers = (1 << np.arange(bits.shape[2])).astype(np.uint16)
        return (bits * powers).sum(axis=2, dtype=np.uint16)


def scale(scans: np.ndarray) -> np.ndarray:
    """Comparable scans: background off, square root, length 1; float32 [m, L]."""
    background = np.quantile(scans, BACKGROUND_QUANTILE, axis=1, keepdims=True)
    above = scans - background.astype(np.float32)
    return normalize(np.sign(above) * np.sqrt(np.abs(above)))


def find_details(scaled: np.ndarray, regions: list[Region]) -> np.ndarray:
    """What distinguishes scaled scans [m, L] from the mean one; of length 1, [m, L].

    In each region the common part is removed, and each counts the same: one peak that is large in
    two patients does not make their scans alike.
    """
    found = np.empty_like(scaled)
    for region in regions:
        here = scaled[:, region.points]
        found[:, region.points] = normalize(here - (here @ region.common) @ region.common.T)
    return normalize(found)


def _make_regions(mean: np.ndarray) -> list[Region]:
    number = max(1, min(MOST_REGIONS, len(mean) // SMALLEST_REGION))
    edges = np.linspace(0, len(mean), number + 1).astype(np.int64)
    slope = np.gradient(mean) if len(mean) > 1 else np.zeros_like(mean)
    pieces = [slice(int(low), int(high)) for low, high in pairwise(edges)]
    steepness = [float(np.linalg.norm(slope[points])) for points in pieces]
    regions = []
    for points, steep in zip(pieces, steepness, strict=True):
        level = np.ones_like(mean[points])
        common = np.linalg.qr(np.stack([level, mean[points]], axis=1))[0]
        parts = np.stack([mean[points], slope[points], level], axis=1)
        solver = np.linalg.pinv(parts)[:2].T if steep > FLAT * max(steepness) else None
        regions.append(Region(points, common, solver))
    return regions


def _least_likeness(details: np.ndarray, groups: np.ndarray, scans: int) -> float:
    """The likeness that no two unrelated scans of a cohort of so many reach by chance.

    Around a scan the number of unrelated scans grows with the distance r as r^d. The ratio of the
    twentieth distance to the fifth gives d (as in Levina and Bickel 2005, "Maximum Likelihood
    Estimation of Intrinsic Dimension"), and d the distance below which hardly any of all pairs are:
    smooth spectra of few components come very near each other, noisy ones never do.
    """
    spread = np.unique(np.linspace(0, len(details) - 1, QUERIES).astype(np.int64))
    strangers = groups[spread][:, None] != groups[None]
    far = min(FAR, int(strangers.sum(axis=1).min()))
    if far <= NEAR:
        return 1.0
    squared = np.where(strangers, np.maximum(2 - 2 * (details[spread] @ details.T), 0), np.inf)
    nearest = np.partition(squared, (NEAR - 1, far - 1), axis=1)
    fifth, last = nearest[:, NEAR - 1], nearest[:, far - 1]
    dense = float(np.quantile(fifth, DENSE))
    if not dense > 0:
        return 1.0
    growth = float(np.median(np.log(last / np.maximum(fifth, dense)))) / 2
    dimension = np.log(far / NEAR) / max(growth, np.finfo(float).eps)
    # Pairs nearer than r: scans^2 / (2 n) * NEAR * (r / r_fifth)^d, which is not to reach ERROR.
    chance = (2 * len(details) * ERROR / (NEAR * scans**2)) ** (2 / dimension)
    return max(LEAST_LIKENESS, 1 - min(FRACTION, chance) * dense / 2)


@dataclass(frozen=True, eq=False)
class ScanMeasures:
    """Of M scans, in the order of the file: rows of the spectra, and the number of the sample.

    ``digest``, uint64 [M], is equal where scans are equal in every bit; ``is_blank`` where one
    holds the same number throughout; ``log_total`` is NaN of an empty scan; ``shifts`` are the
    points by which a scan is right of the mean one in each region, or NaN, [M, W]; ``keys``, uint16
    [M, K], share many bits where scans are alike in detail; ``copied_points`` of the axis repeat
    the one before them in every scan.
    """

    rows: np.ndarray
    owner: np.ndarray
    digest: np.ndarray
    is_blank: np.ndarray
    log_total: np.ndarray
    shifts: np.ndarray
    keys: np.ndarray
    copied_points: int
    reference: Reference

    def mean_of_samples(self, values: np.ndarray, samples: int) -> np.ndarray:
        """Mean of a value of scans, [M], over each sample, [N]; NaN where none was measured."""
        return pd.Series(values).groupby(self.owner).mean().reindex(range(samples)).to_numpy()


def choose_scans(cohort: Cohort, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Rows, ascending, of about ``most`` scans of random samples, and the sample of each."""
    counts = np.array([len(rows) for rows in cohort.scan_rows])
    chosen = np.random.default_rng(0).permutation(len(counts))
    if most is not None:
        chosen = chosen[: max(1, int((counts[chosen].cumsum() <= most).sum()))]
    rows = np.concatenate([cohort.scan_rows[sample] for sample in chosen])
    order = np.argsort(rows)
    return rows[order], np.repeat(chosen, counts[chosen])[order]


def measure_scans(cohort: Cohort, most: int | None = None) -> ScanMeasures:
    """Measure about ``most`` scans (None for all), a chunk at a time."""
    rows, owner = choose_scans(cohort, most)
    reference = Reference.of(cohort.spectra, rows, owner, cohort.groups)
    digests, blanks, totals, shifts, keys = [], [], [], [], []
    is_copy = np.ones(cohort.spec_len - 1, dtype=bool)
    varies = np.zeros(cohort.spec_len, dtype=bool)
    first = None
    for scans in iterate_chunks(cohort.spectra, rows):
        first = scans[0].copy() if first is None else first
        hashes = [hashlib.blake2b(scan.data, digest_size=DIGEST_BYTES).digest() for scan in scans]
        digests.append(np.frombuffer(b"".join(hashes), dtype="<u8"))
        blanks.append(scans.min(axis=1) == scans.max(axis=1))
        totals.append(np.abs(scans).sum(axis=1, dtype=np.float64))
        is_copy &= (scans[:, 1:] == scans[:, :-1]).all(axis=0)
        varies |= (scans != first).any(axis=0)
        scaled = scale(scans)
        shifts.append(reference.shifts(scaled))
        keys.append(reference.keys(find_details(scaled, reference.regions)))
    total = np.concatenate(totals)
    return ScanMeasures(
        rows=rows,
        owner=owner,
        digest=np.concatenate(digests).astype(np.uint64),
        is_blank=np.concatenate(blanks),
        log_total=np.log(total, out=np.full(len(total), np.nan), where=total > 0),
        shifts=np.concatenate(shifts),
        keys=np.concatenate(keys),
        # A constant point, such as an empty one, is no copy.
        copied_points=int((is_copy & varies[1:]).sum()),
        reference=reference,
    )
