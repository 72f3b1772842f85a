"""Transforms of spectra: deterministic, one scan at a time, finite in and finite out.

Each is called with scans [..., L] (float32) and returns a new float32 array of that shape. What
learns from the data (``standardize``) is fitted on training scans only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import reduce
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch

from datasets.errors import UsageError
from datasets.scan_chunks import iterate_chunks
from datasets.specs import Spec, build_each, require_number

Transform = Callable[[np.ndarray], np.ndarray]

# Below this a scan holds no signal; above it, dividing float32 by float32 cannot overflow here.
TINY = float(np.finfo(np.float32).tiny)


@runtime_checkable
class LearnedTransform(Protocol):
    """A transform that is fitted before it is called."""

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        ...

    def fit(self, chunks: Iterable[np.ndarray]) -> Any:
        """Learn from chunks of training scans, [m, L] each, in one pass."""
        ...

    def state_dict(self) -> dict[str, Any]:
        """What was learnt, in tensors and plain types."""
        ...

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> Any:
        """Take back what :meth:`state_dict` gave."""
        ...


class TIC:
    """Total ion current: divide a scan by its mean absolute intensity.

    The mean instead of the sum, so that values stay around 1 whatever L is. For intensities that
    are never negative this is TIC normalisation times L (Deininger et al. 2011, Analytical and
    Bioanalytical Chemistry 401, 167-181); where a baseline subtraction left negative ones, the
    absolute value keeps the divisor away from zero. A scan without signal is left as it is.

    Example:
        >>> TIC()(np.array([[1, 3], [0, 0]], dtype=np.float32)).tolist()
        [[0.5, 1.5], [0.0, 0.0]]
    """

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        current = np.abs(scans).mean(axis=-1, keepdims=True, dtype=np.float64)
        divisor = np.where(current < TINY, 1.0, current).astype(np.float32)
        return scans / divisor


class Sqrt:
    """Square root: evens out the variance of counts; negative intensities count as zero.

    Example:
        >>> Sqrt()(np.array([[4, -1]], dtype=np.float32)).tolist()
        [[2.0, 0.0]]
    """

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        clipped = np.maximum(scans, np.float32(0))
        return np.sqrt(clipped, out=clipped)


class Log1p:
    """Logarithm of 1 + intensity; negative intensities count as zero.

    Example:
        >>> Log1p()(np.array([[0, np.e - 1, -5]], dtype=np.float32)).round(3).tolist()
        [[0.0, 1.0, 0.0]]
    """

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        clipped = np.maximum(scans, np.float32(0))
        return np.log1p(clipped, out=clipped)


class SNV:
    """Standard normal variate: each scan to mean 0 and standard deviation 1 over its points.

    Source: Barnes, Dhanoa and Lister 1989, Applied Spectroscopy 43(5), 772-777. A constant scan
    becomes zero.

    Example:
        >>> SNV()(np.array([[1, 3], [7, 7]], dtype=np.float32)).tolist()
        [[-1.0, 1.0], [0.0, 0.0]]
    """

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Normalise scans, [..., L]."""
        # float64: the mean of a constant scan is exact there, and no square overflows.
        centred = scans.astype(np.float64)
        centred -= centred.mean(axis=-1, keepdims=True)
        std = np.sqrt(np.square(centred).mean(axis=-1, keepdims=True))
        centred /= np.where(std > 0, std, 1.0)
        return centred.astype(np.float32)


class Standardize:
    """Each point of the axis to mean 0 and standard deviation 1 over the training scans.

    Args:
        min_std: A point's standard deviation is taken as at least this part of the root mean
            square of all points' standard deviations: a point that hardly varied in training must
            not blow up what it shows later.

    Attributes:
        mean: float32 [L]; None until fitted.
        std: float32 [L]; None until fitted.

    Example:
        >>> scans = np.array([[1, 5], [3, 9]], dtype=np.float32)
        >>> Standardize().fit([scans])(scans).tolist()
        [[-1.0, -1.0], [1.0, 1.0]]
    """

    def __init__(self, min_std: float = 0.01) -> None:
        self.min_std = require_number("standardize.min_std", min_std, 0.0, 1.0)
        self.mean: np.ndarray | None = None
        self.std: np.ndarray | None = None

    def fit(self, chunks: Iterable[np.ndarray]) -> Standardize:
        """Learn mean and standard deviation in one pass (Chan, Golub and LeVeque 1983).

        Args:
            chunks: Training scans, [m, L] each.

        Raises:
            UsageError: There is no scan to learn from.
        """
        count, mean, squares = 0, np.zeros(0), np.zeros(0)
        for chunk in chunks:
            if len(chunk) == 0:
                continue
            here = chunk.mean(axis=0, dtype=np.float64)
            squares_here = np.square(chunk - here).sum(axis=0)
            if count == 0:
                count, mean, squares = len(chunk), here, squares_here
                continue
            total, shift = count + len(chunk), here - mean
            squares = squares + squares_here + np.square(shift) * (count * len(chunk) / total)
            mean = mean + shift * (len(chunk) / total)
            count = total
        if count == 0:
            raise UsageError("standardize: there is no training scan to learn from")
        variance = squares / count
        floor = self.min_std * float(np.sqrt(variance.mean()))
        std = np.maximum(np.sqrt(variance), floor).astype(np.float32)
        self.mean = mean.astype(np.float32)
        self.std = np.where(std < TINY, np.float32(1), std)
        return self

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Standardise scans, [..., L].

        Raises:
            UsageError: The scans have another number of points than those of the fit.
            RuntimeError: Neither fitted nor loaded.
        """
        if self.mean is None or self.std is None:
            raise RuntimeError("standardize is called before fit or load_state_dict")
        if scans.shape[-1] != len(self.mean):
            raise UsageError(
                f"standardize was fitted on spectra of {len(self.mean)} points; these have "
                f"{scans.shape[-1]}"
            )
        centred: np.ndarray = scans - self.mean
        centred /= self.std
        return centred

    def state_dict(self) -> dict[str, Any]:
        """Mean and standard deviation as tensors [L], or None where not fitted."""
        return {
            "mean": None if self.mean is None else torch.from_numpy(self.mean.copy()),
            "std": None if self.std is None else torch.from_numpy(self.std.copy()),
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave."""
        mean, std = state_dict["mean"], state_dict["std"]
        self.mean = None if mean is None else mean.detach().cpu().numpy().astype(np.float32)
        self.std = None if std is None else std.detach().cpu().numpy().astype(np.float32)


TRANSFORMS: dict[str, type[Any]] = {
    "tic": TIC,
    "sqrt": Sqrt,
    "log1p": Log1p,
    "snv": SNV,
    "standardize": Standardize,
}


class Compose:
    """Transforms one after the other; without any, scans pass unchanged.

    Args:
        transforms: In the order of their use.

    Example:
        >>> Compose([TIC(), Sqrt()])(np.array([[0, 8]], dtype=np.float32)).round(3).tolist()
        [[0.0, 1.4140000343322754]]
    """

    def __init__(self, transforms: Sequence[Transform]) -> None:
        self.transforms = list(transforms)

    def __call__(self, scans: np.ndarray) -> np.ndarray:
        """Transform scans, [..., L]."""
        return reduce(lambda values, transform: transform(values), self.transforms, scans)

    def fit(self, spectra: np.ndarray, rows: np.ndarray | None = None) -> Compose:
        """Fit each transform that learns on the output of those before it, a pass over each.

        Args:
            spectra: [N_scans, L], usually memory-mapped; read a chunk at a time.
            rows: The training scans, [n]; all where it is not given.

        Raises:
            UsageError: There is no scan to learn from.
        """
        rows = np.arange(len(spectra)) if rows is None else np.sort(rows)
        for place, transform in enumerate(self.transforms):
            if isinstance(transform, LearnedTransform):
                transform.fit(self._output_of(place, spectra, rows))
        return self

    def _output_of(self, place: int, spectra: np.ndarray, rows: np.ndarray) -> Iterator[np.ndarray]:
        """What the transforms before ``place`` make of the scans, a chunk at a time."""
        before = Compose(self.transforms[:place])
        return (before(chunk) for chunk in iterate_chunks(spectra, rows))

    def state_dict(self) -> dict[str, Any]:
        """The transforms' names and what each of them learnt, in their order."""
        states = [
            transform.state_dict() if isinstance(transform, LearnedTransform) else {}
            for transform in self.transforms
        ]
        return {"names": self._names(), "states": states}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` gave.

        Raises:
            UsageError: The state is of other transforms.
        """
        if list(state_dict["names"]) != self._names():
            raise UsageError(
                f"the saved transforms are [{', '.join(state_dict['names'])}]; "
                f"[{', '.join(self._names())}] are asked for"
            )
        for transform, state in zip(self.transforms, state_dict["states"], strict=True):
            if isinstance(transform, LearnedTransform):
                transform.load_state_dict(state)

    def _names(self) -> list[str]:
        names = {cls: name for name, cls in TRANSFORMS.items()}
        return [names.get(type(t), type(t).__name__) for t in self.transforms]


def make_transforms(specs: Sequence[Spec]) -> Compose:
    """Build transforms by name.

    Args:
        specs: Each a key of ``TRANSFORMS``, a class, or ``{"name": ..., "params": {...}}``.

    Raises:
        UsageError: An unknown name or parameter, with the nearest valid one.

    Example:
        >>> [type(t).__name__ for t in make_transforms(["tic", {"name": "sqrt"}]).transforms]
        ['TIC', 'Sqrt']
    """
    return Compose(build_each("transform", TRANSFORMS, specs))
