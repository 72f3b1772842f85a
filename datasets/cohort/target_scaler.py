"""Values to regress, brought to mean 0 and standard deviation 1 and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor


class TargetScaler:
    """An affine map of each target; fit it on the training part only.

    A model learns the standardised values, so that the same learning rate and loss weights suit
    every unit; what it says is brought back to the columns' units before anything is measured.

    Example:
        >>> scaler = TargetScaler().fit(np.array([[10.0], [30.0]]))
        >>> scaler.standardize(np.array([[40.0]])).tolist()
        [[2.0]]
        >>> scaler.restore(torch.tensor([[2.0]])).tolist()
        [[40.0]]
    """

    def __init__(self) -> None:
        self._mean: np.ndarray | None = None
        self._std: np.ndarray | None = None

    def fit(self, values: np.ndarray) -> TargetScaler:
        """Learn each target's mean and standard deviation.

        Args:
            values: The training part's, float [N, T]; a target that does not vary there is only
                shifted.

        Returns:
            The scaler itself.
        """
        values = np.asarray(values, dtype=np.float64)
        spread = values.std(axis=0)
        self._mean, self._std = values.mean(axis=0), np.where(spread > 0, spread, 1.0)
        return self

    def standardize(self, values: np.ndarray) -> np.ndarray:
        """From the columns' units, float [N, T], to what a model learns, float32 [N, T]."""
        mean, std = self._fitted()
        standardised: np.ndarray = ((values - mean) / std).astype(np.float32)
        return standardised

    def restore(self, values: Tensor) -> Tensor:
        """From what a model says, [N, T], to the columns' units, in double precision."""
        mean, std = self._fitted()
        return values.double() * torch.from_numpy(std) + torch.from_numpy(mean)

    def state_dict(self) -> dict[str, Any]:
        """Means and standard deviations, as plain lists."""
        mean, std = self._fitted()
        return {"mean": mean.tolist(), "std": std.tolist()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take over what another scaler has learned."""
        self._mean = np.array(state["mean"], dtype=np.float64)
        self._std = np.array(state["std"], dtype=np.float64)

    def _fitted(self) -> tuple[np.ndarray, np.ndarray]:
        if self._mean is None or self._std is None:
            raise RuntimeError("TargetScaler: fit or load_state_dict comes first")
        return self._mean, self._std
