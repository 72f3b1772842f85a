"""What attributions say of single features: covariates, and windows of the spectrum."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from engine.explain import Direction, Explained, find_direction, sample_points, toward_second
from experiments.report.figures.common import PALETTE
from experiments.report.figures.report_input import ReportInput

UNCLEAR, UNCLEAR_COLOUR = "no clear direction", "#999999"


@dataclass(frozen=True)
class Feature:
    """A covariate or a window of the spectrum, over the explained samples.

    Attributes:
        name: To be shown.
        attributions: What it adds to the explained score, [N].
        values: As the model was given them, of a window the mean intensity, [N].
        direction: What a higher value speaks for.
        share: Its part of the scores' mean square, as :func:`Attributions.share` has it.
    """

    name: str
    attributions: np.ndarray
    values: np.ndarray
    direction: Direction
    share: float

    @property
    def size(self) -> float:
        """Mean |attribution|."""
        return float(np.abs(self.attributions).mean())


@dataclass(frozen=True)
class Attributions:
    """The explained samples' attributions in one sense.

    Of the log-odds of two classes all speak for the second one, whichever was explained.

    Attributes:
        what: The score that was explained, in words.
        target: The explained outputs, long [N].
        points: Each sample's sum over its scans, [N, L].
        covariates: [N, D].
        change: What they add up to, f(x) - f(baseline), [N]; None where they do not.
    """

    what: str
    target: torch.Tensor
    points: np.ndarray
    covariates: np.ndarray
    change: np.ndarray | None

    def share(self, contributions: np.ndarray) -> float:
        """The part of the scores' mean square that contributions [N] account for.

        Shares of what does not overlap add up to 1, as in
        :func:`engine.explain.attribution_regions.rank_windows`; NaN where nothing adds up.
        """
        whole = 0.0 if self.change is None else float(self.change @ self.change)
        if self.change is None or whole == 0:
            return float("nan")
        return float(self.change @ contributions) / whole


def in_one_sense(explained: Explained, examined: ReportInput) -> Attributions:
    """Sum over scans, and turn what was explained of the first of two classes.

    Args:
        explained: Of N samples.
        examined: Knows the task, the classes and the unit of what is predicted.
    """
    target = explained.target.long()
    parts = [sample_points(explained), explained.tabular.double()]
    if explained.change is not None:
        parts.append(explained.change.double())
    if examined.scale is not None:
        unit = torch.as_tensor(examined.scale, dtype=torch.double)[target]
        parts = [part * unit.reshape(-1, *(1 for _ in part.shape[1:])) for part in parts]
    if examined.outputs.task == "binary" and explained.score == "log_odds":
        parts = [toward_second(part, target) for part in parts]
        target = torch.ones_like(target)
    points, covariates, *change = (part.numpy() for part in parts)
    what = _explained_score(explained, target, examined)
    return Attributions(what, target, points, covariates, change[0] if change else None)


def _explained_score(explained: Explained, target: torch.Tensor, examined: ReportInput) -> str:
    task = examined.outputs.task
    score = "log-odds" if explained.score == "log_odds" else "logit"
    score = "prediction" if task == "regression" else score
    if len(target) and bool((target == target[0]).all()):
        return f"the {score} of {examined.classes[int(target[0])]}"
    return f"the {score} of each sample's most likely class"


def covariate_features(found: Attributions, examined: ReportInput) -> list[Feature]:
    """The covariates, those that say most first."""
    assert examined.inputs is not None
    width = found.covariates.shape[1]
    names = examined.covariates or [f"covariate {number}" for number in range(width)]
    features = [
        _feature(str(name), found, found.covariates[:, n], examined.inputs.covariates[:, n])
        for n, name in enumerate(names)
    ]
    return sorted(features, key=lambda feature: -feature.size)


def window_features(
    found: Attributions, examined: ReportInput, windows: Sequence[tuple[int, int]]
) -> list[Feature]:
    """Windows of the spectrum, those that say most first.

    Args:
        found: Their attributions.
        examined: Has the intensities and the axis.
        windows: First point of each, and the one behind its last.
    """
    assert examined.inputs is not None
    features = [
        _feature(
            window_name(examined, start, stop),
            found,
            found.points[:, start:stop].sum(axis=1),
            examined.inputs.scans[:, start:stop].mean(axis=1),
        )
        for start, stop in windows
    ]
    return sorted(features, key=lambda feature: -feature.size)


def window_name(examined: ReportInput, start: int, stop: int) -> str:
    """Where a window is, on the axis if there is one."""
    if examined.axis is None:
        return f"points {start} to {stop - 1}" if stop - start > 1 else f"point {start}"
    ends = examined.axis[start], examined.axis[stop - 1]
    # As many digits as it takes to tell neighbouring points apart.
    step = float(np.abs(np.diff(examined.axis)).min(initial=1.0))
    digits = int(np.clip(np.ceil(-np.log10(max(step, 1e-6))), 0, 4))
    first, last = (f"{end:.{digits}f}" for end in ends)
    return f"{examined.axis_name} {first}" + (f" to {last}" if stop - start > 1 else "")


def speaks_for(direction: Direction, task: str, classes: Sequence[str]) -> tuple[str, str]:
    """What a higher value speaks for, in words, and its colour."""
    name, sign = str(classes[direction.output]), direction.sign
    if sign == 0:
        return UNCLEAR, UNCLEAR_COLOUR
    if task == "regression":
        return (f"raises {name}", PALETTE[1]) if sign > 0 else (f"lowers {name}", PALETTE[0])
    if task == "binary":
        spoken_for = direction.output if sign > 0 else 1 - direction.output
        return f"for {classes[spoken_for]}", PALETTE[spoken_for]
    colour = PALETTE[direction.output % len(PALETTE)]
    return f"{'for' if sign > 0 else 'against'} {name}", colour


def _feature(
    name: str, found: Attributions, attributions: np.ndarray, values: np.ndarray
) -> Feature:
    direction = find_direction(
        torch.from_numpy(values.astype(np.float64)), torch.from_numpy(attributions), found.target
    )
    return Feature(name, attributions, values, direction, found.share(attributions))
