"""What the training spectra are like: main components, residuals, peaks, and their places."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from scipy.signal import find_peaks, peak_widths
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold

from experiments.analysis.reference import Groups, Reference, as_plain, effective_samples

MOST_COMPONENTS, FEWEST_SAMPLES = 10, 10
# Distances and residuals of training samples are measured by components of the other folds, as
# those of new samples will be: components fit their own samples too well.
FOLDS = 5
# Far outside: beyond all training samples and, of the logarithms, so many standard deviations.
FAR = 5.0
SMALLEST = 1e-12
# Windows of the axis in which shifts are measured.
MOST_WINDOWS, SMALLEST_WINDOW = 8, 32
# A window tells a shift where the spectrum is this much like the mean one after it.
LEAST_CORRELATION = 0.6
# Peaks of the mean training spectrum, by prominence; smaller ones than this share of the largest
# are left out.
MOST_PEAKS, SMALLEST_PEAK, LEAST_WIDTH = 20, 0.02, 2
DISTANCE, RESIDUAL = "distance", "residual"


@dataclass(frozen=True)
class SpectralSummary:
    """Learned of the mean scans of training samples; K components, W windows, P peaks.

    ``mean`` [L], ``components`` [K, L] and ``variances`` [K] are of the transformed scans;
    ``typical`` [L] is the mean of the scans on the same axis, not transformed, each of length 1.
    ``windows`` are their edges, [W + 1]; ``peaks`` the first point, the top and the end of each,
    [P, 3]. ``references`` has what was measured of the training samples, ``limits`` the distance
    and the residual (their logarithms) beyond which a sample is far outside.
    """

    mean: np.ndarray
    components: np.ndarray
    variances: np.ndarray
    typical: np.ndarray
    windows: np.ndarray
    peaks: np.ndarray
    references: Mapping[str, Reference]
    limits: Mapping[str, float]

    @classmethod
    def of(
        cls, transformed: np.ndarray, placed: np.ndarray, groups: Groups
    ) -> SpectralSummary | None:
        """Of mean scans [N, L], transformed and not, and their groups; None with too few."""
        names = np.asarray(groups, dtype=str)
        folds = min(FOLDS, len(np.unique(names)))
        if len(transformed) < FEWEST_SAMPLES or folds < 2 or transformed.shape[1] < 2:
            return None
        count = min(MOST_COMPONENTS, len(transformed) // 3, transformed.shape[1] - 1)
        outside = np.empty((len(transformed), 2))
        for kept, held in GroupKFold(folds).split(transformed, groups=names):
            mean, components, variances = _components(transformed[kept], count)
            outside[held] = _outside(transformed[held], mean, components, variances)
        mean, components, variances = _components(transformed, count)
        typical = _of_length_one(placed).mean(axis=0)
        found = cls(
            mean.astype(np.float32),
            components.astype(np.float32),
            variances,
            typical,
            _edges(len(typical)),
            _find_peaks(typical),
            {},
            {
                name: float(max(own.max(), own.mean() + FAR * own.std()))
                for name, own in zip((DISTANCE, RESIDUAL), outside.T, strict=True)
            },
        )
        scores = found.scores(transformed)
        measured = dict(zip((DISTANCE, RESIDUAL), outside.T, strict=True))
        measured |= scores | found.places(placed)
        known = {name: Reference.of(own, groups) for name, own in measured.items()}
        # A window, or a peak, that few training samples have tells nothing of new ones.
        present = {name: np.isfinite(own).mean() > 0.5 for name, own in measured.items()}
        kept_ones = {n: r for n, r in known.items() if r is not None and present[n]}
        # Components are ordered by how much varies, between groups too: where groups differ, the
        # last ones are those that happen not to differ between the training groups.
        of_components = [name for name in scores if name in kept_ones]
        alike = max((kept_ones[name].alike for name in of_components), default=0.0)
        for name in of_components:
            effective = effective_samples(names, alike)
            kept_ones[name] = replace(kept_ones[name], alike=alike, effective=effective)
        return replace(found, references=kept_ones)

    def outside(self, transformed: np.ndarray) -> dict[str, np.ndarray]:
        """Logarithms of the distance and the residual of mean scans [n, L].

        The distance is Hotelling's T2, the sum of squared scores relative to their variances
        (Hotelling 1931); the residual Q, the squared length of what the components leave (Jackson
        and Mudholkar 1979).
        """
        both = _outside(transformed, self.mean, self.components, self.variances)
        return dict(zip((DISTANCE, RESIDUAL), both.T, strict=True))

    def scores(self, transformed: np.ndarray) -> dict[str, np.ndarray]:
        """The scores of mean scans [n, L] on each component."""
        scores = (transformed - self.mean) @ self.components.T
        return {f"component {n}": own for n, own in enumerate(scores.T, start=1)}

    def places(self, placed: np.ndarray) -> dict[str, np.ndarray]:
        """Shifts in points by window, and heights of peaks, of scans not transformed [n, L].

        A shift is where the cross-correlation with the typical spectrum is largest, to a fraction
        of a point; NaN where the spectrum is too unlike it. A height is above the lower of the
        peak's two ends, relative to the length of the spectrum.
        """
        scans = _of_length_one(placed)
        found = {}
        for number, (start, stop) in enumerate(pairwise(self.windows.tolist())):
            shifts = _shifts(scans[:, start:stop], self.typical[start:stop])
            found[f"window {number}"] = shifts
        for number, (start, _, stop) in enumerate(self.peaks.tolist()):
            base = np.minimum(scans[:, start], scans[:, stop - 1])
            found[f"peak {number}"] = scans[:, start:stop].max(axis=1) - base
        return found

    def state_dict(self) -> dict[str, object]:
        """Tensors and plain types."""
        arrays = {n: torch.from_numpy(v) for n, v in vars(self).items() if type(v) is np.ndarray}
        references = {name: as_plain(found) for name, found in self.references.items()}
        return {**arrays, "references": references, "limits": dict(self.limits)}

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> SpectralSummary:
        """The inverse of :meth:`state_dict`."""
        arrays = {n: v.numpy() for n, v in state.items() if isinstance(v, torch.Tensor)}
        references = {name: Reference(**found) for name, found in state["references"].items()}
        return cls(**arrays, references=references, limits=dict(state["limits"]))


def _components(scans: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, components and their variances."""
    fitted = PCA(min(count, len(scans) - 1), random_state=0).fit(scans)
    return fitted.mean_, fitted.components_, fitted.explained_variance_


def _outside(
    scans: np.ndarray, mean: np.ndarray, components: np.ndarray, variances: np.ndarray
) -> np.ndarray:
    """Logarithms of Hotelling's T2 and of Q, [n, 2]."""
    apart = scans.astype(np.float64) - mean
    scores = apart @ components.T
    distance = (np.square(scores) / np.maximum(variances, SMALLEST)).sum(axis=1)
    residual = np.square(apart).sum(axis=1) - np.square(scores).sum(axis=1)
    logarithms: np.ndarray = np.log(np.maximum(np.stack([distance, residual], axis=1), SMALLEST))
    return logarithms


def _of_length_one(scans: np.ndarray) -> np.ndarray:
    lengths = np.sqrt(np.square(scans, dtype=np.float64).sum(axis=1, keepdims=True))
    scaled: np.ndarray = scans / np.maximum(lengths, SMALLEST)
    return scaled


def _edges(points: int) -> np.ndarray:
    windows = min(MOST_WINDOWS, points // SMALLEST_WINDOW)
    return np.linspace(0, points, windows + 1).astype(np.int64) if windows else np.zeros(1, int)


def _find_peaks(typical: np.ndarray) -> np.ndarray:
    """First point, top, and end of the most prominent peaks, [P, 3]."""
    tops, found = find_peaks(typical, prominence=SMALLEST_PEAK * float(np.ptp(typical)) + SMALLEST)
    chosen = np.sort(tops[np.argsort(-found["prominences"], kind="stable")[:MOST_PEAKS]])
    if not len(chosen):
        return np.zeros((0, 3), dtype=np.int64)
    widths = np.maximum(peak_widths(typical, chosen)[0], LEAST_WIDTH)
    reach = np.ceil(2 * widths).astype(np.int64)
    last = len(typical)
    return np.stack(
        [np.maximum(chosen - reach, 0), chosen, np.minimum(chosen + reach + 1, last)], axis=1
    )


def _shifts(scans: np.ndarray, typical: np.ndarray) -> np.ndarray:
    """By how many points scans [n, l] are right of the typical one, at most a quarter of l."""
    points = len(typical)
    taper = np.hanning(points)
    own, template = ((of - of.mean(axis=-1, keepdims=True)) * taper for of in (scans, typical))
    size = 2 * points
    product = np.fft.rfft(own, size) * np.conj(np.fft.rfft(template, size))
    lags = np.fft.irfft(product, size)
    reach = points // 4
    # From -reach to reach, and one more at each end, to interpolate.
    around = np.concatenate([lags[:, -reach - 1 :], lags[:, : reach + 2]], axis=1)
    best = around[:, 1:-1].argmax(axis=1) + 1
    rows = np.arange(len(scans))
    before, top, behind = (around[rows, best + step] for step in (-1, 0, 1))
    bend = before - 2 * top + behind
    part = np.divide(before - behind, 2 * bend, out=np.zeros_like(top), where=bend < 0)
    lengths = np.linalg.norm(own, axis=1) * np.linalg.norm(template)
    alike = top > LEAST_CORRELATION * np.maximum(lengths, SMALLEST)
    return np.where(alike, best - reach - 1 + np.clip(part, -0.5, 0.5), np.nan)
