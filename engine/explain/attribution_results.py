"""Attributions of a batch, of many samples one by one, and of many samples together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from datasets.errors import UsageError


@dataclass(frozen=True)
class Attribution:
    """What each input contributes to a score, in the score's unit.

    Attributes:
        spectra: [B, S, L], exactly zero where padded.
        tabular: [B, D].
        target: The output whose score is explained, long [B].
        gap: By how much the contributions fail to add up to f(x) - f(baseline), [B]; None for a
            method that does not promise it.
        change: f(x) - f(baseline), [B]; None for a method without a baseline.
        outputs: How many outputs the model has; 0 where that is not known.
    """

    spectra: Tensor
    tabular: Tensor
    target: Tensor
    gap: Tensor | None
    change: Tensor | None = None
    outputs: int = 0


@dataclass(frozen=True)
class Explained:
    """Attributions of many samples, one by one, on the CPU.

    Attributes:
        method: One of ``METHODS``.
        sample_id: The samples' names, N of them.
        target: The output whose score is explained, long [N].
        scans: For each sample those of its real scans, float32 [S_i, L].
        tabular: Those of the covariates, float32 [N, D].
        change: f(x) - f(baseline), [N]; None for a method without a baseline.
        gap: By how much the contributions fail to add up to it, [N]; None for a method that does
            not promise it.
        score: What of the output is explained, one of ``attribution_methods.SCORES``.
        outputs: How many outputs the model has; 0 where that is not known.
        intensities: For each sample its real scans as the model was given them, float32 [S_i, L];
            None where they were not kept.
    """

    method: str
    sample_id: list[str]
    target: Tensor
    scans: list[Tensor]
    tabular: Tensor
    change: Tensor | None
    gap: Tensor | None
    score: str = "logit"
    outputs: int = 0
    intensities: list[Tensor] | None = None

    def take(self, rows: Sequence[int]) -> Explained:
        """The same of some samples, in the order of ``rows``."""
        chosen = list(rows)
        intensities = self.intensities
        return replace(
            self,
            sample_id=[self.sample_id[row] for row in chosen],
            target=self.target[chosen],
            scans=[self.scans[row] for row in chosen],
            tabular=self.tabular[chosen],
            change=None if self.change is None else self.change[chosen],
            gap=None if self.gap is None else self.gap[chosen],
            intensities=None if intensities is None else [intensities[row] for row in chosen],
        )


@dataclass(frozen=True)
class Importance:
    """Attributions over many samples, on the CPU, in double precision.

    Attributes:
        points: Mean over the samples of the sum over their scans of |attribution|, [L].
        covariates: Mean over the samples of |attribution|, [D].
        signed_points: As ``points``, without taking absolute values, [L].
        signed_covariates: As ``covariates``, without taking absolute values, [D].
        samples: How many.
        gap: The mean |gap|; None for a method that has none.
        scans: Mean over the samples that have an s-th scan of the sum over its points of
            |attribution|, [S]; says something where the order of scans does.
        signed_scans: As ``scans``, without taking absolute values, [S].
    """

    points: Tensor
    covariates: Tensor
    signed_points: Tensor
    signed_covariates: Tensor
    samples: int
    gap: float | None
    scans: Tensor
    signed_scans: Tensor


def importance_of(explained: Explained) -> Importance:
    """Aggregate attributions by point, by covariate and by scan.

    Where each sample's predicted class was explained, the means with a sign are of what speaks
    for whatever is predicted; ``engine.explain.toward_second`` turns attributions
    of two classes towards one of them.

    Args:
        explained: Of at least one sample.

    Raises:
        UsageError: There is no sample.
    """
    sums = ImportanceSums()
    for scans, tabular in zip(explained.scans, explained.tabular, strict=True):
        sums.add(scans, tabular)
    sums.add_gaps(explained.gap)
    return sums.mean()


class ImportanceSums:
    """Importance in the making: sums over samples that need not be kept.

    Attributes:
        samples: How many so far.
    """

    def __init__(self) -> None:
        self.samples = 0
        # Each time absolute and with sign; how many samples have an s-th scan comes last.
        self._points = self._covariates = torch.zeros(2, 0, dtype=torch.double)
        self._scans = torch.zeros(3, 0, dtype=torch.double)
        self._gaps: list[Tensor] = []

    def add(self, scans: Tensor, tabular: Tensor) -> None:
        """Add one sample's attributions, [S_i, L] and [D], on the CPU."""
        scans, tabular = scans.double(), tabular.double()
        by_scan = [scans.abs().sum(dim=1), scans.sum(dim=1), torch.ones(len(scans))]
        points = torch.stack([scans.abs().sum(dim=0), scans.sum(dim=0)])
        self._points = _add(self._points, points)
        self._covariates = _add(self._covariates, torch.stack([tabular.abs(), tabular]))
        self._scans = _add(self._scans, torch.stack([part.double() for part in by_scan]))
        self.samples += 1

    def add_gaps(self, gaps: Tensor | None) -> None:
        """Add the gaps of some samples, where the method has any."""
        if gaps is not None:
            self._gaps.append(gaps.detach().abs().double().cpu())

    def mean(self) -> Importance:
        """The means over the samples.

        Raises:
            UsageError: There is no sample.
        """
        if not self.samples:
            raise UsageError("attribution: the loader is empty, there is no sample to explain")
        points, signed_points = self._points / self.samples
        covariates, signed_covariates = self._covariates / self.samples
        scans, signed_scans = self._scans[:2] / self._scans[2]
        gap = float(torch.cat(self._gaps).mean()) if self._gaps else None
        return Importance(
            points=points,
            covariates=covariates,
            signed_points=signed_points,
            signed_covariates=signed_covariates,
            samples=self.samples,
            gap=gap,
            scans=scans,
            signed_scans=signed_scans,
        )


def _add(first: Tensor, second: Tensor) -> Tensor:
    """The sum of two [K, M], the shorter of which goes on with zeros."""
    width = max(first.shape[1], second.shape[1])
    grown = [torch.nn.functional.pad(one, (0, width - one.shape[1])) for one in (first, second)]
    return grown[0] + grown[1]
