"""Random changes of a sample's scans, for training only, applied after the transforms.

Each is called with a sample's scans, float32 [S, L], and its own random generator, and returns new
scans; sizes are in units of the transformed intensities. One with ``mix`` is given a second sample
of the same class too.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np

from datasets.specs import Spec, build_each, require_choice, require_number, require_whole

if TYPE_CHECKING:
    from datasets.batches import Sample

Augmentation = Callable[[np.ndarray, np.random.Generator], np.ndarray]
# Below this hardly anything is mixed, a thousandth of the samples.
SMALLEST_ALPHA = 1e-3
# The axis is compressed to no less than a tenth, so that points keep their order.
MOST_PRESSED = 0.9
FILLS = ("baseline", "zero")


@runtime_checkable
class PairAugmentation(Protocol):
    """An augmentation that is given a second sample of the same target."""

    def mix(self, sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
        """Change a sample, given another one as the transforms left it."""
        ...


def random_waves(scans: int, points: int, waves: int, rng: np.random.Generator) -> np.ndarray:
    """Sums of ``waves`` cosines of 0.5, 1, 1.5, ... periods, [scans, points], mean square 1."""
    sizes = rng.standard_normal((scans, waves))
    curves = np.zeros((scans, points))
    # Not one matrix product, whose last bit depends on the number of threads.
    for size, cosine in zip(sizes.T, _cosines(points, waves), strict=True):
        curves += size[:, None] * cosine
    return curves


@lru_cache(maxsize=8)
def _cosines(points: int, waves: int) -> np.ndarray:
    periods = np.arange(1, waves + 1)[:, None] * np.linspace(0, np.pi, points)
    cosines: np.ndarray = np.cos(periods) * np.sqrt(2 / waves)
    cosines.setflags(write=False)
    return cosines


class AxisShift:
    """Shift each scan along the axis, as a calibration error does.

    Uniformly up to ``max_points`` to either side, interpolated linearly; end points are repeated.
    """

    def __init__(self, max_points: float = 2.0) -> None:
        self.max_points = require_number("axis_shift.max_points", max_points)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        shifts = rng.uniform(-self.max_points, self.max_points, len(scans))
        return shift_scans(scans, shifts[:, None])


class AxisWarp:
    """Shift each scan by an amount that varies along the axis; points keep their order.

    The shift is a smooth random curve of ``waves`` half periods; its largest size is uniform up to
    ``max_points``. The points at the ends are repeated.
    """

    def __init__(self, max_points: float = 2.0, waves: int = 3) -> None:
        self.max_points = require_number("axis_warp.max_points", max_points)
        self.waves = require_whole("axis_warp.waves", waves, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        shifts = random_waves(len(scans), scans.shape[1], self.waves, rng)
        largest = np.maximum(np.abs(shifts).max(axis=1, keepdims=True), np.finfo(float).tiny)
        shifts *= rng.uniform(0, self.max_points, (len(scans), 1)) / largest
        pressed = (-np.diff(shifts)).max(axis=1, keepdims=True, initial=0.0)
        shifts *= MOST_PRESSED / np.maximum(pressed, MOST_PRESSED)
        return shift_scans(scans, -shifts)


def shift_scans(scans: np.ndarray, shifts: np.ndarray) -> np.ndarray:
    """Move scans, float32 [S, L], towards the axis's end by points, [S, 1] or [S, L].

    Fractions are interpolated linearly; the first and the last point are repeated.
    """
    points = np.arange(scans.shape[1])
    pairs = zip(scans, shifts, strict=True)
    return np.array([np.interp(points - shift, points, scan) for scan, shift in pairs], np.float32)


class Noise:
    """Add white Gaussian noise of standard deviation ``std``."""

    def __init__(self, std: float = 0.1) -> None:
        self.std = np.float32(require_number("noise.std", std))

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        noise = rng.standard_normal(scans.shape, dtype=np.float32)
        noise *= self.std
        noise += scans
        return noise


class Intensity:
    """Multiply each scan by a log-normal factor of median 1; ``std`` is of its logarithm."""

    def __init__(self, std: float = 0.1) -> None:
        self.std = np.float32(require_number("intensity.std", std))

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        factors = np.exp(self.std * rng.standard_normal((len(scans), 1), dtype=np.float32))
        return scans * factors


class BaselineDrift:
    """Add to each scan a smooth random curve, like the rest of a baseline.

    The curve is a sum of ``waves`` cosines; ``size`` is its root mean square on average, in units
    of the scan's own standard deviation over its points.
    """

    def __init__(self, size: float = 0.1, waves: int = 4) -> None:
        self.size = require_number("baseline_drift.size", size)
        self.waves = require_whole("baseline_drift.waves", waves, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        curves = random_waves(len(scans), scans.shape[1], self.waves, rng)
        spread = scans.std(axis=1, keepdims=True, dtype=np.float64)
        drifted: np.ndarray = (scans + self.size * spread * curves).astype(np.float32)
        return drifted


class PeakDropout:
    """Remove regions of the axis, peaks included, so that no single peak is relied upon.

    Regions of ``width`` points, from a random point on, are each removed with the chance ``p`` from
    all scans of a sample: another scan would show the peak. ``fill`` replaces them by the straight
    line between their ends (``baseline``) or by ``zero``.
    """

    def __init__(self, p: float = 0.1, width: int = 20, fill: str = "baseline") -> None:
        self.p = require_number("peak_dropout.p", p, 0.0, 1.0)
        self.width = require_whole("peak_dropout.width", width, 1)
        self.fill = require_choice("peak_dropout.fill", fill, FILLS)
        self._along = np.arange(self.width, dtype=np.float32)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L]."""
        points = scans.shape[1]
        starts = np.arange(-int(rng.integers(self.width)), points, self.width)
        changed = scans.copy()
        for start in starts[rng.random(len(starts)) < self.p].tolist():
            region = changed[:, max(start, 0) : start + self.width]
            if self.fill == "zero":
                region[:] = 0
            else:
                first, last, steps = region[:, :1], region[:, -1:], region.shape[1] - 1
                region[:] = first + (last - first) * (self._along[: steps + 1] / max(steps, 1))
        return changed


class ScanDropout:
    """Leave out each scan with the chance ``p``; one is always kept. List it first to save work."""

    def __init__(self, p: float = 0.1) -> None:
        self.p = require_number("scan_dropout.p", p, 0.0, 1.0)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L], to [1..S, L]."""
        keep = rng.random(len(scans)) >= self.p
        if not keep.any():
            keep[rng.integers(len(scans))] = True
        return scans[keep]


class ScanSampling:
    """Keep at most ``most`` random scans, anew in each epoch; evaluation uses all of them."""

    def __init__(self, most: int = 4) -> None:
        self.most = require_whole("scan_sampling.most", most, 1)

    def __call__(self, scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the scans, [S, L], to [1..most, L], in their order."""
        if len(scans) <= self.most:
            return scans.copy()
        return scans[np.sort(rng.choice(len(scans), self.most, replace=False))]


class Mixup:
    """Mix each sample with another one of its class: scans with scans, covariates with covariates.

    Each becomes ``share`` of its own and ``1 - share`` of the other's (Zhang et al. 2018, "mixup:
    Beyond Empirical Risk Minimization"); ``share``, one number per sample, is from Beta(alpha,
    alpha) and at least a half. Each scan is mixed with a random one of the other sample. Of several
    labels, the other sample has the same set; one whose target no other has stays as it is.
    """

    def __init__(self, alpha: float = 0.2) -> None:
        self.alpha = require_number("mixup.alpha", alpha, SMALLEST_ALPHA)

    def mix(self, sample: Sample, other: Sample, rng: np.random.Generator) -> Sample:
        """Mix a sample with another one of the same target."""
        drawn = rng.beta(self.alpha, self.alpha)
        share = np.float32(max(drawn, 1 - drawn))
        rest = np.float32(1) - share
        partners = rng.integers(len(other.spectra), size=len(sample.spectra))
        mixed = sample._replace(
            spectra=share * sample.spectra + rest * other.spectra[partners],
            tabular=share * sample.tabular + rest * other.tabular,
        )
        if sample.offset is None or other.offset is None:
            return mixed
        return mixed._replace(offset=share * sample.offset + rest * other.offset)


AUGMENTATIONS = {
    "noise": Noise,
    "intensity": Intensity,
    "baseline_drift": BaselineDrift,
    "axis_shift": AxisShift,
    "axis_warp": AxisWarp,
    "peak_dropout": PeakDropout,
    "scan_dropout": ScanDropout,
    "scan_sampling": ScanSampling,
    "mixup": Mixup,
}


def make_augmentations(specs: Sequence[Spec]) -> list[Augmentation | PairAugmentation]:
    """Build augmentations: keys of ``AUGMENTATIONS``, classes, or ``{"name", "params"}``."""
    return build_each("augmentation", AUGMENTATIONS, specs)
