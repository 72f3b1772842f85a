"""From attributions of single points to regions of the axis, and the direction of a feature."""

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
    """Which output's score a higher value of a feature changes, by Spearman's rank correlation."""

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
    """The direction of a feature from its values and its attributions for the outputs, [N] each."""
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


# Of the region around each point: its first point, and the one after its last.
Edges = tuple[np.ndarray, np.ndarray]
RANKINGS = ("share", "magnitude", "signed")
UNITS = ("relative", "axis", "points")
# 2.5 times the full width at half maximum of a peak at a resolving power of 200 (linear mode).
WIDTH = 0.0125


@dataclass(frozen=True)
class Window:
    """A region of the axis and the attribution that it was ranked by.

    ``low``, ``centre`` and ``high`` are positions of points, ``start`` and ``stop`` their numbers;
    ``direction`` is that of a higher intensity, None without intensities.
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


def window_edges(axis: np.ndarray, width: float, unit: str) -> Edges:
    """The region around each point: its first point, and the one after its last, two int [L].

    ``axis`` are ascending positions [L]. The ``unit`` of the width is ``relative`` to the position,
    as peak widths are at a constant resolving power m/z / width; ``axis``, the axis' own; or
    ``points``.
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


def window_sums(values: Tensor, edges: Edges) -> Tensor:
    """Sums over the region around each point, double [..., L]."""
    first, behind = (torch.from_numpy(edge) for edge in edges)
    total = torch.nn.functional.pad(values.double().cumsum(dim=-1), (1, 0))
    return total[..., behind] - total[..., first]


def rank_windows(explained: Explained, edges: Edges, by: str = "share") -> Tensor:
    """The importance of the region around each point, [L]; true labels are not used.

    Attributions are first summed over scans and region, so that noise of changing sign cancels.
    With a_w the sum and c the sample's f(x) - f(baseline):

    - ``share``: sum(a_w c) / sum(c c) over the samples. Shares of disjoint regions and of the
      covariates add up to 1. UsageError for a method whose contributions have no sum.
    - ``magnitude``: the mean of |a_w|.
    - ``signed``: the mean of a_w.
    """
    if by not in RANKINGS:
        raise UsageError(f"windows.by: nothing is called '{by}'{nearest(by, RANKINGS)}")
    sums = window_sums(sample_points(explained), edges)
    if by == "magnitude":
        return sums.abs().mean(dim=0)
    if by == "signed":
        return sums.mean(dim=0)
    if explained.change is None:
        without = f"contributions by {explained.method} add up to nothing to have a share of"
        raise UsageError(f"windows.by: {without}; choose magnitude")
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
    on; arguments as for :func:`window_edges` and :func:`rank_windows`.
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
