"""Pairs of scans that are alike in detail, found without comparing each with each."""

from __future__ import annotations

import numpy as np

from datasets.audit.reference import scale
from datasets.audit.scan_measures import ScanMeasures
from datasets.scans import CHUNK_BYTES

# Beyond this likeness two scans are one: only rounding, gain or offset was changed.
SAME = 0.9999
# Of the scans that share a key each is compared with so many: keys are short enough for a scan to
# share each with one other by chance.
NEIGHBOURS = 16
# The nearest of the candidates are looked at in full.
MOST_PAIRS = 20_000
# Two scans of some likeness differ in more bits than expected by this many standard deviations
# once in a thousand times.
BIT_DEVIATIONS = 3.0


def find_lookalikes(
    spectra: np.ndarray, scans: ScanMeasures, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Find near-identical scans of different groups that are not equal in every bit.

    Scans that share one of several short keys are compared by all their keys' bits, and those that
    come near by their details; memory grows with the number of scans, not of pairs. Of 60,000
    scans a pair of likeness 0.98 is missed once in seventy times, one of 0.9 twice in five; of
    fewer scans both are missed less often.

    Args:
        spectra: [N_scans, L].
        scans: Of M scans.
        groups: Of each of them, [M].

    Returns:
        Pairs of numbers of scans, int [P, 2], and their likeness, float [P].
    """
    least = scans.reference.near
    pairs, bits = _candidates(scans, groups, least)
    pairs = pairs[np.argsort(bits, kind="stable")[:MOST_PAIRS]]
    likeness = _compare(spectra, scans, pairs)
    near = likeness >= least
    return pairs[near], likeness[near]


def _candidates(
    scans: ScanMeasures, groups: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that share a key and differ in few bits, [P, 2], and in how many, [P]."""
    keys, count = scans.keys, len(scans.keys)
    codes, found_bits = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    most_bits = _most_bits(least, total=scans.reference.directions.shape[1])
    groups = np.unique(groups, return_inverse=True)[1]
    for number in range(keys.shape[1]):
        # Those that share the next key too come first.
        order = np.lexsort((np.roll(keys, -1, axis=1)[:, number], keys[:, number]))
        for distance in range(1, min(NEIGHBOURS + 1, count)):
            a, b = order[:-distance], order[distance:]
            shared = (keys[a, number] == keys[b, number]) & (groups[a] != groups[b])
            shared &= ~(scans.is_blank[a] | scans.is_blank[b]) & (
                scans.digest[a] != scans.digest[b]
            )
            a, b = a[shared], b[shared]
            bits = np.bitwise_count(keys[a] ^ keys[b]).sum(axis=1, dtype=np.int64)
            few = bits <= most_bits
            codes.append(np.minimum(a, b)[few] * count + np.maximum(a, b)[few])
            found_bits.append(bits[few])
    code, first = np.unique(np.concatenate(codes), return_index=True)
    return np.stack([code // count, code % count], axis=1), np.concatenate(found_bits)[first]


def _most_bits(likeness: float, total: int) -> float:
    """In how many of all bits two scans of a likeness may differ."""
    chance = np.arccos(likeness) / np.pi
    return float(total * chance + BIT_DEVIATIONS * (total * chance * (1 - chance)) ** 0.5)


def _compare(spectra: np.ndarray, scans: ScanMeasures, pairs: np.ndarray) -> np.ndarray:
    """Likeness of the details of each pair's scans, from -1 to 1, [P]."""
    found = [np.empty(0)]
    step = max(1, CHUNK_BYTES // (8 * spectra.shape[1]))
    for start in range(0, len(pairs), step):
        rows = scans.rows[pairs[start : start + step]]
        one, other = (
            scans.reference.details(scale(np.asarray(spectra[rows[:, side]]))) for side in (0, 1)
        )
        found.append((one * other).sum(axis=1, dtype=np.float64))
    return np.concatenate(found)
