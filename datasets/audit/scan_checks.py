"""Checks of the scans and their axis: duplicates, blanks, gaps, repeated points, shifts."""

from collections.abc import Iterator

import numpy as np
import pandas as pd
from scipy.ndimage import median_filter
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from datasets.audit.context import AuditContext
from datasets.audit.findings import Finding, Level, counted
from datasets.audit.scan_measures import ScanMeasures, find_details, scale
from datasets.messages import Message
from datasets.scans import CHUNK_BYTES

# A step of the axis that differs by this factor from those around it is a gap or crowded.
SEAM = 10.0
AROUND = 21
# Peaks that change with the disease move a scan's apparent position too, by hundredths of a point.
SMALLEST_SHIFT = 0.1
# A shift has one direction over the whole axis; changes of peaks have not.
AGREEING_REGIONS = 0.9
# From this likeness on two scans differ in rounding, gain or offset only.
SAME = 0.9999
# Number of scans with the same key that each is compared with: keys are short enough for a scan to
# share each with one other by chance.
NEIGHBOURS = 16
# Candidates, the nearest first, whose details are compared.
MOST_PAIRS = 20_000
# Two scans of some likeness differ in more bits than expected by this many standard deviations
# once in a thousand times.
BIT_DEVIATIONS = 3.0
# Places of a set's scans, the gravest first, and the levels of identical and near-identical scans;
# within a group only identical ones are looked for.
PLACES: tuple[tuple[str, Level, Level | None, str], ...] = (
    ("sides", "refuse", "warn", "in another split: the test set holds scans that were trained on"),
    ("labels", "refuse", "warn", "in another group and of another label: one of them is wrong"),
    ("groups", "warn", "warn", "in another group: a split can separate them"),
    ("samples", "note", None, "in the same group: what it says counts twice"),
)


def check_axis(context: AuditContext) -> Iterator[Finding]:
    """Gaps, crowded points, and points that repeat their neighbour."""
    axis = np.asarray(context.cohort.axis, dtype=np.float64)
    steps = np.diff(axis)
    usual = median_filter(steps, size=AROUND, mode="nearest") if len(steps) else steps
    gaps = np.flatnonzero(steps > SEAM * usual)
    if len(gaps):
        first = int(gaps[0])
        sentence = Message(
            "the axis has {}, the first from {} to {}: models take these points for neighbours",
            *(counted(len(gaps), "gap"), f"{axis[first]:g}", f"{axis[first + 1]:g}"),
        )
        yield Finding("axis:gaps", "note", len(gaps), sentence)
    crowded = np.flatnonzero(steps < usual / SEAM)
    if len(crowded):
        first = int(crowded[0])
        sentence = Message(
            "{} of the axis all but repeating the one before: {} after {}, the first",
            *(counted(len(crowded), "point"), f"{axis[first + 1]:.10g}", f"{axis[first]:.10g}"),
        )
        yield Finding("axis:crowded", "warn", len(crowded), sentence)
    copies = context.scans.copied_points
    if copies:
        sentence = Message(
            "{} of {} points of the axis hold in every scan what the point before holds: spectra "
            "were stretched, or columns stand twice",
            *(copies, len(axis)),
        )
        yield Finding("axis:copies", "warn", copies, sentence)


def check_scan_counts(context: AuditContext) -> Iterator[Finding]:
    """Whether the number of a sample's scans, which every model sees, separates the classes."""
    counts = np.array([len(rows) for rows in context.cohort.scan_rows], dtype=np.float64)
    found = context.examiner.ask_numbers(counts)
    if found is not None and found.beyond_chance:
        yield found.finding(
            "scan_count",
            "the number of scans predicts {}: on average {} in {}, {} in {}",
            *(found.contrast.target, *found.contrast.compare(counts, ".1f")),
        )


def check_intensity(context: AuditContext) -> Iterator[Finding]:
    """Whether the total intensity, before any scaling, separates the classes."""
    totals = context.scans.mean_of_samples(context.scans.log_total, len(context.cohort.sample_ids))
    found = context.examiner.ask_numbers(totals)
    if found is not None and found.beyond_chance:
        yield found.finding(
            "intensity",
            "the total intensity of the scans predicts {}: on average {} in {}, {} in {}; the "
            "transform tic removes it",
            *(found.contrast.target, *found.contrast.compare(np.exp(totals), ".3g")),
        )


def check_axis_shift(context: AuditContext) -> Iterator[Finding]:
    """A calibration that differs between the classes.

    Each scan is compared with the mean scan in several regions of the axis; to first order a shift
    adds a multiple of the mean scan's slope.
    """
    scans, count = context.scans, len(context.cohort.sample_ids)
    if not scans.shifts.shape[1]:
        return
    means = [scans.mean_of_samples(shifts, count) for shifts in scans.shifts.T]
    by_region = pd.DataFrame(np.stack(means, axis=1))  # [N, W]
    found = context.examiner.ask_numbers(by_region.median(axis=1).to_numpy())
    if found is None or not found.beyond_chance:
        return
    members = found.contrast.members
    apart = by_region[members].median() - by_region[~members].median()
    shift = float(apart.median())
    agreeing = float((np.sign(apart) == np.sign(shift)).mean())
    direction = "right" if shift > 0 else "left"
    if abs(shift) >= SMALLEST_SHIFT and agreeing >= AGREEING_REGIONS:
        yield found.finding(
            "axis_shift",
            f"a shift of the axis predicts {{}}: scans of {{}} are shifted about {{}} points "
            f"{direction} of the others, as by another calibration",
            *(found.contrast.target, found.contrast.name, f"{abs(shift):.1f}"),
        )


def find_near_duplicates(
    spectra: np.ndarray, scans: ScanMeasures, groups: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of near-identical scans of different groups, not equal in every bit; likeness.

    Numbers of scans, int [P, 2], and float [P]. Scans that share one of several short keys are
    compared by all their keys' bits, and those that are close by their details; memory grows with
    the number of scans, not of pairs. Of 60,000 scans a pair of likeness 0.98 is missed once in
    seventy times, one of 0.9 twice in five.
    """
    least = scans.reference.near
    pairs, bits = _candidates(scans, groups, least)
    pairs = pairs[np.argsort(bits, kind="stable")[:MOST_PAIRS]]
    likeness = _compare(spectra, scans, pairs)
    near = likeness >= least
    return pairs[near], likeness[near]


def _compare(spectra: np.ndarray, scans: ScanMeasures, pairs: np.ndarray) -> np.ndarray:
    """Likeness of the details of each pair's scans, from -1 to 1, [P]."""
    found = [np.empty(0)]
    step = max(1, CHUNK_BYTES // (8 * spectra.shape[1]))
    for start in range(0, len(pairs), step):
        rows = scans.rows[pairs[start : start + step]]
        one, other = (
            find_details(scale(np.asarray(spectra[chosen])), scans.reference.regions)
            for chosen in rows.T
        )
        found.append((one * other).sum(axis=1, dtype=np.float64))
    return np.concatenate(found)


def _candidates(
    scans: ScanMeasures, groups: np.ndarray, least: float
) -> tuple[np.ndarray, np.ndarray]:
    """Pairs that share a key and differ in few bits, [P, 2], and in how many, [P]."""
    keys, count = scans.keys, len(scans.keys)
    codes, found_bits = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    total, chance = scans.reference.directions.shape[1], float(np.arccos(least) / np.pi)
    most_bits = total * chance + BIT_DEVIATIONS * (total * chance * (1 - chance)) ** 0.5
    groups = np.unique(groups, return_inverse=True)[1]
    for number in range(keys.shape[1]):
        # Those that share the next key too come first.
        order = np.lexsort((np.roll(keys, -1, axis=1)[:, number], keys[:, number]))
        for distance in range(1, min(NEIGHBOURS + 1, count)):
            a, b = order[:-distance], order[distance:]
            shared = (keys[a, number] == keys[b, number]) & (groups[a] != groups[b])
            shared &= ~(scans.is_blank[a] | scans.is_blank[b])
            shared &= scans.digest[a] != scans.digest[b]
            a, b = a[shared], b[shared]
            bits = np.bitwise_count(keys[a] ^ keys[b]).sum(axis=1, dtype=np.int64)
            few = bits <= most_bits
            codes.append(np.minimum(a, b)[few] * count + np.maximum(a, b)[few])
            found_bits.append(bits[few])
    code, first = np.unique(np.concatenate(codes), return_index=True)
    return np.stack([code // count, code % count], axis=1), np.concatenate(found_bits)[first]


def check_duplicates(context: AuditContext) -> Iterator[Finding]:
    """Scans that are identical but for gain and offset, or nearly so."""
    scans, cohort = context.scans, context.cohort
    pairs, likeness = find_near_duplicates(cohort.spectra, scans, cohort.groups[scans.owner])
    order = np.argsort(scans.digest, kind="stable")
    order = order[~scans.is_blank[order]]
    equal = scans.digest[order[1:]] == scans.digest[order[:-1]]
    in_every_bit = np.stack([order[:-1][equal], order[1:][equal]], axis=1)  # each with the next
    same = np.concatenate([in_every_bit, pairs[likeness >= SAME]])
    identical = _sets_by_place(context, same)
    near = _sets_by_place(context, pairs[likeness < SAME])
    for place, level, near_level, where in PLACES:
        for name, of_level, sets, alike in (
            ("duplicates", level, identical[place], "identical"),
            ("near_duplicates", near_level, near[place], "nearly identical"),
        ):
            if of_level is None or not sets:
                continue
            number = sum(map(len, sets))
            examples = list(dict.fromkeys(_name(context, int(scan)) for scan in sets[0][:2]))
            such_as = " and ".join(["sample {}"] * len(examples))
            told = f"{{}} scans are {alike} to one {{}} (such as {such_as})"
            sentence = Message(told, number, Message(where), *examples)
            yield Finding(f"{name}:{place}", of_level, number, sentence)


def check_blank_scans(context: AuditContext) -> Iterator[Finding]:
    """Scans that hold the same number throughout."""
    blank = np.flatnonzero(context.scans.is_blank)
    if len(blank):
        sentence = Message(
            "{} with the same number throughout, the first of sample {}",
            *(counted(len(blank), "scan"), _name(context, int(blank[0]))),
        )
        yield Finding("scans:blank", "warn", len(blank), sentence)


def _sets_by_place(context: AuditContext, pairs: np.ndarray) -> dict[str, list[np.ndarray]]:
    scans, cohort = context.scans, context.cohort
    found: dict[str, list[np.ndarray]] = {place: [] for place, *_ in PLACES}
    if not len(pairs):
        return found
    count = len(scans.rows)
    links = coo_array((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(count, count))
    set_of = connected_components(links, directed=False)[1]
    involved = np.unique(pairs)
    owner = scans.owner[involved]
    table = pd.DataFrame(
        {
            "sides": 0 if context.split is None else context.split[owner],
            "labels": np.unique(cohort.targets, axis=0, return_inverse=True)[1][owner],
            "groups": cohort.groups[owner],
        }
    )
    several = table.groupby(set_of[involved]).nunique() > 1
    members = pd.Series(involved).groupby(set_of[involved])
    for (_, here), (_, row) in zip(members, several.iterrows(), strict=True):
        place = "samples"
        if row["sides"]:
            place = "sides"
        elif row["groups"]:
            place = "labels" if row["labels"] else "groups"
        found[place].append(here.to_numpy())
    return found


def _name(context: AuditContext, scan: int) -> str:
    return context.cohort.sample_ids[int(context.scans.owner[scan])]
