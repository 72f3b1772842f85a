"""What an audit has to know of each scan, measured in one pass over the spectra."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from datasets.audit.reference import Reference, scale
from datasets.cohort import Cohort
from datasets.scans import iterate_chunks

# Bytes of a scan's digest: two of a million scans are alike by chance once in ten million audits.
DIGEST_BYTES = 8


@dataclass(frozen=True, eq=False)
class ScanMeasures:
    """Of M scans, in the order of the file.

    Attributes:
        rows: Which rows of the spectra they are, [M].
        owner: Whose they are: the sample's number, [M].
        digest: Equal where scans are equal in every bit, uint64 [M].
        is_blank: Whether a scan holds the same number throughout, bool [M].
        log_total: The logarithm of the total intensity, NaN of an empty scan, [M].
        shifts: By how many points the scan stands right of the mean one, in each window of the
            axis; NaN where a window cannot tell, [M, W].
        keys: Scans that are alike in detail share many of their bits, uint16 [M, K].
        copied_points: How many points of the axis repeat the one before them in every scan.
        reference: What the scans were compared with.
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
        """The mean of a value of scans, [M], in each sample, [N]; NaN where none was measured."""
        known = ~np.isnan(values)
        counts = np.bincount(self.owner[known], minlength=samples).astype(np.float64)
        sums = np.bincount(self.owner[known], weights=values[known], minlength=samples)
        return np.divide(sums, counts, out=np.full(samples, np.nan), where=counts > 0)


def choose_scans(cohort: Cohort, most: int | None) -> tuple[np.ndarray, np.ndarray]:
    """All scans of the cohort's samples, or those of samples that are drawn from it.

    Args:
        cohort: Any.
        most: About how many scans to take, None for all.

    Returns:
        Rows of the spectra, ascending, and the sample that each is of.
    """
    counts = np.array([len(rows) for rows in cohort.scan_rows])
    chosen = np.random.default_rng(0).permutation(len(counts))
    if most is not None:
        chosen = chosen[: max(1, int((counts[chosen].cumsum() <= most).sum()))]
    rows = np.concatenate([cohort.scan_rows[sample] for sample in chosen])
    order = np.argsort(rows)
    return rows[order], np.repeat(chosen, counts[chosen])[order]


def measure_scans(cohort: Cohort, most: int | None = None) -> ScanMeasures:
    """Measure the scans, a chunk at a time.

    Args:
        cohort: Any.
        most: About how many scans to measure, None for all.
    """
    rows, owner = choose_scans(cohort, most)
    reference = Reference.of(cohort.spectra, rows, owner, cohort.groups)
    digests, blanks, totals, shifts, keys = [], [], [], [], []
    is_copy = np.ones(cohort.spec_len - 1, dtype=bool)
    varies = np.zeros(cohort.spec_len, dtype=bool)
    first = None
    for scans in iterate_chunks(cohort.spectra, rows):
        first = scans[0].copy() if first is None else first
        digests.append([_digest(scan) for scan in scans])
        blanks.append(scans.min(axis=1) == scans.max(axis=1))
        totals.append(np.abs(scans).sum(axis=1, dtype=np.float64))
        is_copy &= (scans[:, 1:] == scans[:, :-1]).all(axis=0)
        varies |= (scans != first).any(axis=0)
        scaled = scale(scans)
        shifts.append(reference.shifts(scaled))
        keys.append(reference.keys(reference.details(scaled)))
    total = np.concatenate(totals)
    return ScanMeasures(
        rows=rows,
        owner=owner,
        digest=np.concatenate(digests).astype(np.uint64),
        is_blank=np.concatenate(blanks),
        log_total=np.log(total, out=np.full(len(total), np.nan), where=total > 0),
        shifts=np.concatenate(shifts),
        keys=np.concatenate(keys),
        # A point at which nothing ever varies, such as an empty one, is no copy of anything.
        copied_points=int((is_copy & varies[1:]).sum()),
        reference=reference,
    )


def _digest(scan: np.ndarray) -> int:
    return int.from_bytes(hashlib.blake2b(scan.data, digest_size=DIGEST_BYTES).digest(), "little")
