"""What is different in new samples from those that a model was trained on."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

import numpy as np
import pandas as pd

from datasets.messages import Message
from engine.reporting import figure_text
from experiments.analysis import (
    DISTANCE,
    RESIDUAL,
    Difference,
    Reference,
    SpectralSummary,
    TrainingSummary,
    category_values,
    number_values,
)

# The chance of any finding at all in samples like those of training, shared by all comparisons.
ERROR = 0.01
# Smaller differences are none to act on: in standard deviations of the training samples; in the
# spread, as a factor; in shares; in points of the axis; in a peak's height, as what is left of it.
NUMBERS, SPECTRA, SPREAD = 0.35, 0.5, 2.0
MISSING, CATEGORY, PREDICTED = 0.1, 0.15, 0.15
SHIFT, GONE = 0.5, 0.25
FAR_OUTSIDE, BETWEEN = "far_outside", "; "
SPECTRUM = "spectrum"
NO_SUMMARY = Message(
    "no drift check: this model was exported without a summary of its training set (by an earlier "
    "version); train it again to have one"
)


@dataclass(frozen=True)
class Compared:
    """One row of the table of all comparisons; ``found`` where the difference is a finding."""

    kind: str
    name: str
    difference: Difference
    found: bool = False


@dataclass(frozen=True)
class Drift:
    """All comparisons of new samples with the training set, and a sentence for each finding."""

    compared: Sequence[Compared]
    findings: Sequence[Message]


class SpectraMeasures:
    """Measures of new samples' mean scans, in the order in which they are added.

    ``outside`` is whether a sample is far outside, bool [N].
    """

    def __init__(self, summary: SpectralSummary, wanted: np.ndarray) -> None:
        """``wanted`` is which samples shifts and peaks are measured of, bool [N]."""
        self.summary, self.wanted = summary, wanted
        self._parts: list[dict[str, np.ndarray]] = []
        self._added = 0

    def add(self, transformed: np.ndarray, placed: np.ndarray | None) -> np.ndarray:
        """Measure the next mean scans [n, L]; returns which of them are far outside, bool [n].

        ``placed`` are those of the wanted samples, not transformed; None where there are none.
        """
        summary = self.summary
        found = summary.outside(transformed)
        outside = np.any([found[name] > summary.limits[name] for name in found], axis=0)
        found |= summary.scores(transformed)
        if placed is not None:
            rows = np.flatnonzero(self.wanted[self._added : self._added + len(transformed)])
            for name, values in summary.places(placed).items():
                found[name] = np.full(len(transformed), np.nan)
                found[name][rows] = values
        self._parts.append(found)
        self._added += len(transformed)
        far: np.ndarray = outside
        return far

    def values(self) -> dict[str, np.ndarray]:
        """What was measured, [N] each; NaN of samples that were not wanted."""
        names = {name for part in self._parts for name in part}
        return {
            name: np.concatenate(
                [
                    part.get(name, np.full(len(part[DISTANCE]), np.nan))  # no sample was wanted
                    for part in self._parts
                ]
            )
            for name in names
        }


@dataclass
class DriftCheck:
    """Holds new samples against the summary of a training set.

    ``table`` has their covariates and ``groups`` their groups, [N].
    """

    summary: TrainingSummary
    table: pd.DataFrame
    groups: np.ndarray
    axis: np.ndarray | None = None
    axis_name: str = "axis"
    measured: Mapping[str, np.ndarray] = field(default_factory=dict)
    has_covariates: bool = True

    def far_outside(self, rows: np.ndarray, of_spectra: np.ndarray | None = None) -> list[str]:
        """For each of these samples in what it is far outside of the training set; mostly empty.

        A number is far outside where it is beyond the training samples' range by as much as that
        range. ``of_spectra`` is whether a sample's spectrum is, bool [n].
        """
        reasons: list[list[str]] = [[] for _ in rows]
        if of_spectra is not None:
            for place in np.flatnonzero(of_spectra):
                reasons[place].append(SPECTRUM)
        if not self.has_covariates:
            return [BETWEEN.join(found) for found in reasons]
        table = self.table.iloc[rows]
        for name, reference in self.summary.numbers.items():
            values = number_values(table, name, self.summary.log)
            low, high = reference.values[0], reference.values[-1]
            reach = high - low
            for place in np.flatnonzero((values < low - reach) | (values > high + reach)):
                reasons[place].append(name)
        return [BETWEEN.join(found) for found in reasons]

    def compare(self, predicted: Mapping[str, np.ndarray]) -> Drift:
        """All comparisons; ``predicted`` is as the summary has it, [N] each."""
        compared = [*self._covariates(), *self._spectra(), *self._predictions(predicted)]
        level = ERROR / max(1, len(compared))
        judged = [
            replace(of, found=_matters(of) and of.difference.p_value < level) for of in compared
        ]
        return Drift(judged, list(self._tell([of for of in judged if of.found])))

    def _covariates(self) -> Iterator[Compared]:
        summary, groups = self.summary, self.groups
        if not self.has_covariates:
            return
        for name, share in summary.missing.items():
            if name in summary.categories:
                unknown = category_values(self.table, name)[1]
            else:
                unknown = np.isnan(number_values(self.table, name, summary.log))
            yield Compared("missing", name, share.compare(unknown, groups))
        for name, reference in summary.numbers.items():
            difference = reference.compare(number_values(self.table, name, summary.log), groups)
            if difference is not None:
                shown = f"log1p({name})" if name in summary.log else name
                yield Compared("number", shown, difference)
        for name, kinds in summary.categories.items():
            values, unknown = category_values(self.table, name)
            for kind, share in kinds.items():
                # Missing values are a comparison of their own.
                if not unknown.all():
                    known = ~unknown
                    members = values[known] == kind
                    whole = share.share / max(1 - summary.missing[name].share, 1e-9)
                    of_known = type(share)(min(whole, 1.0), share.effective, share.alike)
                    difference = of_known.compare(members, groups[known])
                    yield Compared("category", f"{name}={kind}", difference)

    def _spectra(self) -> Iterator[Compared]:
        if self.summary.spectra is None:
            return
        for name, reference in self.summary.spectra.references.items():
            if name in self.measured:
                difference = reference.compare(self.measured[name], self.groups)
                if difference is not None:
                    yield Compared(name.partition(" ")[0], name, difference)

    def _predictions(self, predicted: Mapping[str, np.ndarray]) -> Iterator[Compared]:
        for name, reference in self.summary.predicted.items():
            difference = reference.compare(predicted[name], self.groups)
            if difference is not None:
                kind = "predicted value" if isinstance(reference, Reference) else "predicted rate"
                yield Compared(kind, name, difference)

    def _tell(self, found: Sequence[Compared]) -> Iterator[Message]:
        for of in found:
            told = TOLD.get(of.kind)
            if told is not None:
                own = Message(of.name) if of.kind in (DISTANCE, RESIDUAL) else of.name
                yield Message(told, own, *_figures(of))
        yield from self._tell_components([of for of in found if of.kind == "component"])
        yield from self._tell_shifts([of for of in found if of.kind == "window"])
        yield from self._tell_peaks([of for of in found if of.kind == "peak"])

    def _tell_components(self, found: Sequence[Compared]) -> Iterator[Message]:
        if found:
            most = max(found, key=lambda of: abs(of.difference.distance))
            told = "spectra: main components that differ: {}; {} by {} standard deviations"
            yield Message(
                told,
                len(found),
                Message("component {}", _number(most)),
                figure_text(abs(most.difference.distance), 2),
            )

    def _tell_shifts(self, found: Sequence[Compared]) -> Iterator[Message]:
        if not found:
            return
        spectra = self.summary.spectra
        assert spectra is not None
        all_windows = sum(name.startswith("window ") for name in spectra.references)
        most = max(found, key=lambda of: abs(of.difference.new - of.difference.old))
        start, stop = list(pairwise(spectra.windows.tolist()))[_number(most)]
        shift = most.difference.new - most.difference.old
        place: tuple[str, str] = Message("{} to {}", start, stop - 1), Message("points")
        if self.axis is not None:
            ends = (f"{self.axis[place]:g}" for place in (start, stop - 1))
            place = Message("{} to {}", *ends), self.axis_name
        told = "spectra: peaks are shifted in {} of {} windows of the axis, by {} points in {} ({})"
        sizes = len(found), all_windows
        yield Message(told, *sizes, figure_text(shift, 2, "+"), *place)

    def _tell_peaks(self, found: Sequence[Compared]) -> Iterator[Message]:
        if not found:
            return
        spectra = self.summary.spectra
        assert spectra is not None
        tops = [int(spectra.peaks[_number(of), 1]) for of in found]
        places = [f"{top if self.axis is None else self.axis[top]:.6g}" for top in tops]
        told = "spectra: {} of {} main peaks of the training spectra are gone: {} {}"
        yield Message(told, len(found), len(spectra.peaks), self.axis_name, places)


TOLD = {
    "missing": "missing values of {}: {} here, {} in training",
    "number": "covariate {}: median {} here, {} in training ({} standard deviations between means, "
    "{} times the spread)",
    "category": "category {}: {} here, {} in training",
    RESIDUAL: "spectra: the {} from the main components is larger than in training, by {} standard "
    "deviations",
    DISTANCE: "spectra: the {} from the mean spectrum is larger than in training, by {} standard "
    "deviations",
    "predicted rate": "predicted rate of {}: {} here, {} on the validation set",
    "predicted value": "predicted {}: median {} here, {} on the validation set ({} standard "
    "deviations between means, {} times the spread)",
}


def _figures(of: Compared) -> list[str]:
    different = of.difference
    if of.kind in (RESIDUAL, DISTANCE):
        return [figure_text(different.distance, 2, "+")]
    if math.isnan(different.spread) and of.kind not in ("number", "predicted value"):
        return [f"{share:.0%}" for share in (different.new, different.old)]
    both = [figure_text(value, 3) for value in (different.new, different.old)]
    return [*both, figure_text(different.distance, 2, "+"), figure_text(different.spread, 2)]


def _matters(of: Compared) -> bool:
    """Whether a difference is large enough to act on, if it is no chance."""
    found = of.difference
    if of.kind in ("number", "predicted value"):
        spread = found.spread
        wider = not math.isnan(spread) and not 1 / SPREAD <= spread <= SPREAD
        return abs(found.distance) >= NUMBERS or wider
    if of.kind == "window":
        return abs(found.new - found.old) >= SHIFT
    if of.kind == "peak":
        return found.old > 0 and found.new < GONE * found.old
    if of.kind in (DISTANCE, RESIDUAL):  # nearer to the training set is no drift
        return found.distance >= SPECTRA
    least = {"missing": MISSING, "category": CATEGORY, "predicted rate": PREDICTED}
    return abs(found.distance) >= least.get(of.kind, SPECTRA)


def _number(of: Compared) -> int:
    return int(of.name.rpartition(" ")[2])
