"""From attributions of single points to regions of the axis, and the direction of a feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from datasets.errors import UsageError, nearest
from datasets.specs import require_whole
from engine.explain.attribution_results import Explained

# Minimum for a direction: of 100 samples, a rank correlation exceeds 0.2 by chance once in twenty
# times.
FEWEST_SAMPLES, WEAKEST = 8, 0.2


@dataclass(frozen=True)
class Direction:
    """Which output's score a higher value of a feature raises or lowers.

    ``output`` is the one on which the feature has the most influence; ``rank_correlation`` is
    Spearman's, of the feature's values and its attributions for that output; NaN if one of them is
    constant.
    """

    output: int
    rank_correlation: float
    samples: int

    @property
    def sign(self) -> int:
        """1: a higher value raises the score; -1: it lowers it; 0: no clear direction."""
        clear = abs(self.rank_correlation) >= WEAKEST  # False of NaN
        if not clear or self.samples < FEWEST_SAMPLES:
            return 0
        return 1 if self.rank_correlation > 0 else -1


def find_direction(values: Tensor, attributions: Tensor, target: Tensor) -> Direction:
    """Find the direction of a feature from its values and attributions; true labels are not used.

    Args:
        values: The feature's, [N].
        attributions: Its contribution to the score of each sample's explained output, [N].
        target: Those outputs, long [N].

    Example:
        >>> values = torch.arange(10.0)
        >>> found = find_direction(values, -2 * values, torch.ones(10).long())
        >>> found.output, round(found.rank_correlation, 3), found.sign
        (1, -1.0, -1)
    """
    weight = torch.zeros(int(target.max()) + 1, dtype=torch.double)
    weight.index_add_(0, target, attributions.double().abs())
    output = int(weight.argmax())
    own = target == output
    return Direction(output, _spearman(values[own], attributions[own]), int(own.sum()))


def toward_second(attributions: Tensor, target: Tensor) -> Tensor:
    """Attributions [N, ...] of each sample's own output, of two classes, as those of class 1."""
    turned = torch.where(target == 0, -1.0, 1.0).to(attributions)
    return attributions * turned.reshape(-1, *(1 for _ in attributions.shape[1:]))


def _spearman(first: Tensor, second: Tensor) -> float:
    ranks = [torch.from_numpy(rankdata(one.double().numpy())) for one in (first, second)]
    centred = [one - one.mean() for one in ranks]
    spread = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / spread) if spread > 0 else float("nan")


RANKINGS = ("share", "magnitude", "signed")
UNITS = ("relative", "axis", "points")
# 2.5 times the full width at half maximum of a peak at a resolving power of 200 (linear mode).
WIDTH = 0.0125


@dataclass(frozen=True)
class Window:
    """A region of the axis and its attribution.

    ``low``, ``centre`` and ``high`` are positions of its first, middle and last point; ``start``
    and ``stop`` the numbers of its first point and after its last; ``value`` is what it was ranked
    by; ``direction`` tells which output a higher intensity supports, None without intensities.
    """

    low: float
    centre: float
    high: float
    start: int
    stop: int
    value: float
    direction: Direction | None = None

    def holds(self, place: float) -> bool:
        """Whether a position on the axis lies in it."""
        return self.low <= place <= self.high


def window_edges(axis: np.ndarray, width: float, unit: str) -> tuple[np.ndarray, np.ndarray]:
    """The region around each point: its first point, and the one after its last, two int [L].

    Args:
        axis: Positions of the points, ascending, [L].
        width: Above 0.
        unit: Of the width: ``relative`` to the position, as peak widths are at a constant resolving
            power m/z / width; ``axis``, the axis' own unit; ``points``.

    Raises:
        UsageError: The width or its unit is invalid, or the axis does not ascend.

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
    """Sums over the region around each point, double [..., L]."""
    first, behind = (torch.from_numpy(edge) for edge in edges)
    total = torch.nn.functional.pad(values.double().cumsum(dim=-1), (1, 0))
    return total[..., behind] - total[..., first]


def rank_windows(
    explained: Explained, edges: tuple[np.ndarray, np.ndarray], by: str = "share"
) -> Tensor:
    """The importance of the region around each point, [L]; true labels are not used.

    Attributions are first summed, with their sign, over scans and region, so that noise that
    changes sign from point to point or scan to scan cancels. With a_w the sum and c the sample's
    f(x) - f(baseline):

    - ``share``: sum(a_w c) / sum(c c) over the samples. Shares of disjoint regions and of the
      covariates add up to 1: the part of the score's mean square that the region accounts for.
      Contributions that the rest of the input undoes cancel.
    - ``magnitude``: the mean of |a_w|.
    - ``signed``: the mean of a_w.

    Raises:
        UsageError: Unknown ranking, or ``share`` of a method whose contributions have no sum.
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
    """The most important regions, at most ``count`` in descending order, none overlapping another.

    The highest region is taken, those that overlap it are dropped (non-maximum suppression), and so
    on. ``width`` and ``unit`` are those of :func:`window_edges`, ``by`` that of
    :func:`rank_windows`.

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
    count = require_whole("windows.count", count, 1)
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
    if explained.intensities is None:
        return None
    mean = [scans[:, start:stop].double().mean() for scans in explained.intensities]
    sums = torch.stack([scans[:, start:stop].double().sum() for scans in explained.scans])
    target = explained.target
    if explained.outputs == 2 and explained.score == "log_odds":
        sums, target = toward_second(sums, target), torch.ones_like(target)
    return find_direction(torch.stack(mean), sums, target)
