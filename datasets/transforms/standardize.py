"""Standardisation of each point over the scans of the training part."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
import torch

from datasets.errors import UsageError
from datasets.specs import require_number
from datasets.transforms.protocol import TINY


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
