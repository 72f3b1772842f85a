"""From attributions of single points to windows of the axis: where a model looks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from datasets.errors import UsageError, nearest
from engine.errors import check_whole
from engine.explain.attribution_directions import Direction, find_direction, toward_second
from engine.explain.attribution_results import Explained

RANKINGS = ("share", "magnitude", "signed")
UNITS = ("relative", "axis", "points")
# 2.5 times the full width at half maximum of a peak at a resolving power of 200, which is what a
# linear-mode instrument has: a peak with its feet.
WIDTH = 0.0125


@dataclass(frozen=True)
class Window:
    """A window of the axis, and what the model made of it.

    Attributes:
        low: Its first point's place.
        centre: Its middle point's.
        high: Its last point's.
        start: Its first point's number.
        stop: The number behind its last point's.
        value: What it was ranked by.
        direction: Which output a higher intensity in it speaks for; None where the intensities
            were not kept.
    """

    low: float
    centre: float
    high: float
    start: int
    stop: int
    value: float
    direction: Direction | None = None

    def holds(self, place: float) -> bool:
        """Whether a place on the axis lies in it."""
        return self.low <= place <= self.high


def window_edges(axis: np.ndarray, width: float, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The window around each point: its first point, and the one behind its last, two int [L].

    Args:
        axis: The points' places, ascending, [L].
        width: Of a window, above 0.
        unit: What it is measured in: ``relative`` to the place, as the width of a peak is where
            the resolving power m/z / width is the same all over; ``axis``, its own unit;
            ``points``.

    Raises:
        UsageError: The width or its unit cannot be used, or the axis does not ascend.

    Example:
        >>> first, behind = window_edges(np.array([100.0, 101.0, 102.0, 103.0]), 0.02, "relative")
        >>> first.tolist(), behind.tolist()
        ([0, 0, 1, 2], [2, 3, 4, 4])
    """
    if unit not in UNITS:
        raise UsageError(f"windows.unit: nothing is called '{unit}'{nearest(unit, UNITS)}")
    if not width > 0:
        raise UsageError(f"windows.width must be above 0, not {width}")
    places = np.asarray(axis, dtype=np.float64)
    if (np.diff(places) <= 0).any():
        raise UsageError("windows: the axis must ascend")
    if unit == "points":
        places = np.arange(len(places), dtype=np.float64)
    half = width / 2 * (np.abs(places) if unit == "relative" else np.ones(len(places)))
    first = np.searchsorted(places, places - half, side="left")
    behind = np.searchsorted(places, places + half, side="right")
    return first, behind


def window_sums(values: Tensor, edges: tuple[np.ndarray, np.ndarray]) -> Tensor:
    """Sums over the window around each point: [..., L] of [..., L], in double precision."""
    first, behind = (torch.from_numpy(edge) for edge in edges)
    total = torch.nn.functional.pad(values.double().cumsum(dim=-1), (1, 0))
    return total[..., behind] - total[..., first]


def rank_windows(
    explained: Explained, edges: tuple[np.ndarray, np.ndarray], by: str = "share"
) -> Tensor:
    """How much each window counts, [L].

    A sample's attributions are summed over its scans and over a window, with their sign, before
    anything else is done: what contradicts itself from point to point or from scan to scan is
    noise, and so falls out.

    - ``share``: a_w the window's sum and c the sample's f(x) - f(baseline), sum(a_w c) /
      sum(c c) over the samples. As the attributions of a sample add up to c, the shares of
      windows that do not overlap, and of the covariates, add up to 1: the part of the score's
      mean square that the window accounts for. A window counts in so far as its contributions go
      with the score; contributions to and fro that the rest of the input undoes, such as the
      noise of a model that learnt nothing, cancel.
    - ``magnitude``: the mean of |a_w|.
    - ``signed``: the mean of a_w, what speaks for the output that was explained; of each sample's
      predicted class where that was.

    The true labels have no part in any.

    Args:
        explained: Of N samples.
        edges: As :func:`window_edges` gives them.
        by: One of ``RANKINGS``.

    Raises:
        UsageError: There is no such ranking, or the method's contributions do not add up to
            anything, which ``share`` needs.
    """
    if by not in RANKINGS:
        raise UsageError(f"windows.by: nothing is called '{by}'{nearest(by, RANKINGS)}")
    sums = window_sums(sample_points(explained), edges)
    if by == "magnitude":
        return sums.abs().mean(dim=0)
    if by == "signed":
        return sums.mean(dim=0)
    if explained.change is None:
        raise UsageError(
            f"windows.by: contributions by {explained.method} add up to nothing to have a share "
            "of; choose magnitude"
        )
    change = explained.change.double()
    return change @ sums / change.square().sum().clamp(min=torch.finfo(torch.double).tiny)


def top_windows(
    explained: Explained,
    axis: np.ndarray,
    count: int = 10,
    *,
    width: float = WIDTH,
    unit: str = "relative",
    by: str = "share",
) -> list[Window]:
    """The windows that count most, none overlapping another, the first one most.

    A window slides over the axis point by point; the highest is taken, those that overlap it
    are left out (non-maximum suppression), and so on.

    Args:
        explained: At least one sample.
        axis: The points' places, ascending, [L].
        count: How many, at least 1; fewer are returned where there is no room for more.
        width: As for :func:`window_edges`.
        unit: As for :func:`window_edges`.
        by: As for :func:`rank_windows`.

    Raises:
        UsageError: As for :func:`window_edges` and :func:`rank_windows`.

    Example:
        >>> scans = [torch.tensor([[0.0, 2.0, 0.0, 0.0, 1.0, 0.0]])]
        >>> change = torch.tensor([3.0])
        >>> found = Explained("integrated_gradients", ["a"], torch.tensor([1]), scans,
        ...                   torch.zeros(1, 0), change, None)
        >>> for window in top_windows(found, np.arange(10.0, 16.0), 2, width=0.5, unit="axis"):
        ...     print(window.low, window.centre, window.high, round(window.value, 2))
        11.0 11.0 11.0 0.67
        14.0 14.0 14.0 0.33
    """
    check_whole("windows.count", count)
    edges = window_edges(axis, width, unit)
    values = rank_windows(explained, edges, by)
    first, behind = edges
    left = values.clone()
    windows: list[Window] = []
    while len(windows) < count and bool(torch.isfinite(left).any()):
        at = int(left.argmax())
        start, stop = int(first[at]), int(behind[at])
        places = float(axis[start]), float(axis[at]), float(axis[stop - 1])
        direction = _direction(explained, start, stop)
        windows.append(Window(*places, start, stop, float(values[at]), direction))
        left[torch.from_numpy((first < stop) & (behind > start))] = -torch.inf
    return windows


def sample_points(explained: Explained) -> Tensor:
    """Each sample's attributions, summed over its scans, double [N, L]."""
    return torch.stack([scans.double().sum(dim=0) for scans in explained.scans])


def _direction(explained: Explained, start: int, stop: int) -> Direction | None:
    """Which output a higher intensity of a window speaks for."""
    if explained.intensities is None:
        return None
    mean = [scans[:, start:stop].double().mean() for scans in explained.intensities]
    sums = torch.stack([scans[:, start:stop].double().sum() for scans in explained.scans])
    target = explained.target
    if explained.outputs == 2 and explained.score == "log_odds":
        sums, target = toward_second(sums, target), torch.ones_like(target)
    return find_direction(torch.stack(mean), sums, target)
