"""Scaling of intensities: variance-stabilising, per scan, and per point over the training scans."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import numpy as np

from datasets.errors import UsageError
from datasets.messages import Message
from datasets.specs import require_choice, require_number, require_range

# Below this a scan holds no signal; above it, dividing float32 by float32 cannot overflow here.
TINY = float(np.finfo(np.float32).tiny)
# Where most points are 0, as after peak picking, the median is no scale of the scan.
SMALLEST_MEDIAN = 1e-3


class _NonNegative:
    """Base of transforms of intensities that are never negative."""

    outside_text = Message("are negative and become 0; snv, vector and standardize take both signs")

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which intensities of [..., L] are negative."""
        return np.asarray(scans < 0)


class _NeedsSignal:
    """Base of transforms that divide a scan by its signal."""

    outside_text = Message("hold no signal and stay as they are")

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] hold no signal, [..., 1]."""
        return np.asarray(np.abs(scans).max(axis=-1, keepdims=True) < TINY)


class Sqrt(_NonNegative):
    """Square root: evens out the variance of counts; negative intensities count as zero."""

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        clipped = np.maximum(scans, np.float32(0))
        return np.sqrt(clipped, out=clipped)


# Positive float32 are in the order of their bits. Without the last 12 a bucket spans at most 0.05%.
BITS_LEFT_OUT = np.uint32(12)
BUCKETS = 1 << 31 - int(BITS_LEFT_OUT)


class Log(_NonNegative):
    """Logarithm of intensity + offset; negative intensities count as zero.

    The offset is 1, or with ``quantile`` that quantile of the positive intensities of the training
    scans, found in one pass to 0.05% of itself: ``offset``, float32, None until fitted.
    """

    name = "log"

    def __init__(self, quantile: float | None = None) -> None:
        self.quantile: float | None = None
        if quantile is not None:
            self.quantile = require_number(f"{self.name}.quantile", quantile, 0.0, 1.0)
        self.offset: np.float32 | None = None

    def fit(self, chunks: Iterable[np.ndarray]) -> Log:
        """Learn from chunks of training scans, [m, L], in one pass; nothing without a quantile."""
        if self.quantile is None:
            return self
        counts = np.zeros(BUCKETS, dtype=np.int64)
        for chunk in chunks:
            buckets = chunk[chunk > 0].view(np.uint32) >> BITS_LEFT_OUT
            counts += np.bincount(buckets, minlength=BUCKETS)
        below = np.cumsum(counts)
        if not below[-1]:
            raise UsageError(f"{self.name}: no intensity of the training scans is positive")
        rank = self.quantile * (below[-1] - 1)
        bucket = int(np.searchsorted(below, rank, side="right"))
        ends = (np.array([bucket, bucket + 1], dtype=np.uint32) << BITS_LEFT_OUT).view(np.float32)
        share = 1 - (below[bucket] - rank - 0.5) / counts[bucket]
        self.offset = np.float32(max(TINY, ends[0] + share * (ends[1] - ends[0])))
        return self

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]; RuntimeError where it is neither fitted nor loaded."""
        clipped = np.maximum(scans, np.float32(0))
        if self.quantile is None:
            return np.log1p(clipped, out=clipped)
        if self.offset is None:
            raise RuntimeError(f"{self.name} is called before fit or load_state_dict")
        clipped += self.offset
        return np.log(clipped, out=clipped)

    def state_dict(self) -> dict[str, Any]:
        """The offset that was learned, or None."""
        return {"offset": None if self.offset is None else float(self.offset)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`; UsageError where only the state has an offset."""
        offset = state_dict.get("offset")  # older states hold none
        if offset is not None and self.quantile is None:
            raise UsageError(f"{self.name}.quantile: a number was expected, as in the saved state")
        self.offset = None if offset is None else np.float32(offset)


class CLR(Log):
    """Centred log-ratio: the logarithm as by ``log``, minus its mean over a scan's points.

    It takes intensities, not logarithms of them. Source: Aitchison 1982, "The statistical analysis
    of compositional data", Journal of the Royal Statistical Society B 44(2), 139-177.
    """

    name = "clr"

    def __init__(self, quantile: float = 0.05) -> None:
        super().__init__(require_number("clr.quantile", quantile, 0.0, 1.0))

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]; RuntimeError where it is neither fitted nor loaded."""
        logs = super().__call__(scans)
        # float64: the mean of a constant scan is exact there.
        return (logs - logs.mean(axis=-1, keepdims=True, dtype=np.float64)).astype(np.float32)


class TIC(_NeedsSignal):
    """Total ion current: divide a scan by its mean absolute intensity; one without signal stays.

    Not by the sum, so that values stay around 1 for any L (Deininger et al. 2011, Analytical and
    Bioanalytical Chemistry 401, 167-181); without the absolute value the divisor could be near zero
    after a baseline subtraction.
    """

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        return _divide(scans, np.abs(scans).mean(axis=-1, keepdims=True, dtype=np.float64))


class VectorNorm(_NeedsSignal):
    """Vector normalisation: divide a scan by its Euclidean length; one without signal stays."""

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        squares = np.square(scans, dtype=np.float64).sum(axis=-1, keepdims=True)
        return _divide(scans, np.sqrt(squares))


class MedianNorm:
    """Median normalisation: divide a scan by the median of its absolute intensities.

    Unlike the mean, the median does not follow a few large peaks (Gibb and Strimmer 2012,
    MALDIquant, Bioinformatics 28, 2270-2271). The divisor is at least a thousandth of the mean
    absolute intensity; a scan without signal stays as it is.
    """

    outside_text = Message(
        "have a median of 0 and are divided by a thousandth of their mean; tic suits them"
    )

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] have a median of about 0, [..., 1]."""
        median, least = self._scale(scans)
        return np.asarray(median <= least)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        return _divide(scans, np.maximum(*self._scale(scans)))

    def _scale(self, scans: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        sizes = np.abs(scans)
        least = SMALLEST_MEDIAN * sizes.mean(axis=-1, keepdims=True, dtype=np.float64)
        return np.median(sizes, axis=-1, keepdims=True), least


class SNV:
    """Standard normal variate: each scan to mean 0 and standard deviation 1 (ddof 0) over points.

    A constant scan becomes zero (Barnes, Dhanoa, Lister 1989, Applied Spectroscopy 43(5), 772-777).
    """

    outside_text = Message("are constant and become 0")

    def outside(self, scans: np.ndarray) -> np.ndarray:
        """Which scans of [..., L] are constant, [..., 1]."""
        low, high = scans.min(axis=-1, keepdims=True), scans.max(axis=-1, keepdims=True)
        return np.asarray(low == high)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        # float64: the mean of a constant scan is exact there, and no square overflows.
        centred = scans.astype(np.float64)
        centred -= centred.mean(axis=-1, keepdims=True)
        std = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True))
        centred /= np.where(std > 0, std, 1.0)
        return centred.astype(np.float32)


def _divide(scans: np.ndarray, divisor: np.ndarray) -> np.ndarray:
    """Divide each scan, [..., L], by its own number, [..., 1], unless that is tiny."""
    divided: np.ndarray = scans / np.where(divisor < TINY, 1.0, divisor).astype(np.float32)
    return divided


class Standardize:
    """Each point of the axis to mean 0 and standard deviation 1 over the training scans.

    ``min_std`` keeps a nearly constant point from being amplified. It is relative to all points'
    root mean square deviation (``rms``), which a few large peaks decide, or to the median deviation
    of the points that vary (``median``). With ``clip``, values beyond so many deviations are
    limited to them. ``mean`` and ``std`` are float32 [L], None until fitted.
    """

    def __init__(
        self,
        min_std: float = 0.01,
        relative_to: Literal["rms", "median"] = "rms",
        clip: float | None = None,
    ) -> None:
        self.min_std = require_number("standardize.min_std", min_std, 0.0, 1.0)
        self.relative_to = require_choice("standardize.relative_to", relative_to, ("rms", "median"))
        self.clip: float | None = None
        if clip is not None:
            self.clip = require_range("standardize.clip", clip, 0.0, math.inf, open_low=True)
        self.mean: np.ndarray | None = None
        self.std: np.ndarray | None = None

    def fit(self, chunks: Iterable[np.ndarray]) -> Standardize:
        """Learn from chunks of training scans, [m, L], in one pass."""
        from sklearn.preprocessing import StandardScaler  # slow to import

        scaler = StandardScaler()
        for chunk in chunks:
            if len(chunk):
                scaler.partial_fit(chunk)
        if not hasattr(scaler, "var_"):
            raise UsageError("standardize: there is no training scan to learn from")
        std = np.sqrt(scaler.var_)
        typical = np.sqrt(scaler.var_.mean())
        if self.relative_to == "median" and typical > 0:
            typical = np.median(std[std > 0])
        std = np.maximum(std, self.min_std * typical).astype(np.float32)
        self.mean = scaler.mean_.astype(np.float32)
        self.std = np.where(std < TINY, np.float32(1), std)
        return self

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Standardise scans, [..., L]; RuntimeError where it is neither fitted nor loaded."""
        if self.mean is None or self.std is None:
            raise RuntimeError("standardize is called before fit or load_state_dict")
        if scans.shape[-1] != len(self.mean):
            raise UsageError(
                f"standardize was fitted on spectra of {len(self.mean)} points; these have "
                f"{scans.shape[-1]}"
            )
        centred: np.ndarray = scans - self.mean
        centred /= self.std
        return centred if self.clip is None else np.clip(centred, -self.clip, self.clip)

    def state_dict(self) -> dict[str, Any]:
        """Mean and standard deviation as tensors [L], or None where not fitted."""
        import torch  # only where states are saved

        state = {"mean": self.mean, "std": self.std}
        return {
            name: None if values is None else torch.from_numpy(values.copy())
            for name, values in state.items()
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        for name in ("mean", "std"):
            values = state_dict[name]
            loaded = None if values is None else values.detach().cpu().float().numpy()
            setattr(self, name, loaded)
