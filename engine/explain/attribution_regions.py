"""From attributions of single points to regions of the axis, and the direction of a feature."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.stats import rankdata
from torch import Tensor

from datasets.errors import UsageError, nearest
from engine.errors import check_whole
from engine.explain.attribution_results import Explained

# Fewer samples, or a weaker rank correlation, and there is no direction to speak of: of 100
# samples 0.2 is what chance exceeds once in twenty times.
FEWEST_SAMPLES, WEAKEST = 8, 0.2


@dataclass(frozen=True)
class Direction:
    """Which output's score a higher value of a feature raises or lowers.

    Attributes:
        output: Its number: of the outputs that were explained the one on which the feature has
            the most influence.
        rank_correlation: Spearman's, of the feature's values and its attributions for that output;
            NaN where one of them does not vary.
        samples: How many it is of.
    """

    output: int
    rank_correlation: float
    samples: int

    @property
    def sign(self) -> int:
        """1: a higher value raises the score; -1: it lowers it; 0: neither clearly."""
        clear = abs(self.rank_correlation) >= WEAKEST  # False of NaN
        if not clear or self.samples < FEWEST_SAMPLES:
            return 0
        return 1 if self.rank_correlation > 0 else -1


def find_direction(values: Tensor, attributions: Tensor, target: Tensor) -> Direction:
    """Find what a higher value of one feature speaks for.

    An attribution's own sign says what a value spoke for in one sample; whether higher values
    speak for more is seen by how attributions go with values. The true labels have no part.

    Args:
        values: The feature's, [N].
        attributions: The feature's contribution to the score of each sample's explained output,
            [N].
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
    """Attributions [N, ...] of two classes, where each sample's own was explained, as of class 1.

    What speaks for one of two classes speaks as much against the other.
    """
    turned = torch.where(target == 0, -1.0, 1.0).to(attributions)
    return attributions * turned.reshape(-1, *(1 for _ in attributions.shape[1:]))


def _spearman(first: Tensor, second: Tensor) -> float:
    ranks = [torch.from_numpy(rankdata(one.double().numpy())) for one in (first, second)]
    centred = [one - one.mean() for one in ranks]
    spread = centred[0].norm() * centred[1].norm()
    return float(centred[0] @ centred[1] / spread) if spread > 0 else float("nan")


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
