"""Attributions of a batch and of many samples, their means, and their safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datasets.errors import UsageError
from engine.files import write_whole


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


FORMAT, FORMAT_OF_SEVERAL = "scanfire attributions 1", "scanfire attributions 2"
OPTIONAL = ("change", "gap")


def write_explained(
    sets: Explained | Sequence[Explained], path: Path, output_names: Sequence[str] = ()
) -> None:
    """Write a file that any reader of safetensors can read; the intensities are left out.

    Tensors: ``scans`` float32 [R, L], the real scans of all samples one behind the other;
    ``owner`` long [R], the number of the sample that each of them is of; ``tabular`` [N, D];
    ``target`` [N]; ``change`` and ``gap`` [N] where there are any. Metadata: ``format``,
    ``method``, ``score``, ``outputs``, ``output_names`` (a JSON list, empty where they are not
    known), and ``sample_id``, N names as a JSON list.

    Of several sets, one for each label or value, there are ``scans.<output>``,
    ``tabular.<output>``, ``target.<output>``, ``change.<output>`` and ``gap.<output>``, the output
    being its number; ``owner`` is of all. The metadata ``sets`` lists the numbers as JSON.

    Args:
        sets: Attributions of the same samples, at least one; of several sets each of one output.
        path: Its folder is made where there is none; an earlier file is replaced as a whole.
        output_names: What the model's outputs are called.

    Raises:
        UsageError: It cannot be written.
    """
    every = [sets] if isinstance(sets, Explained) else list(sets)
    first, several = every[0], len(every) > 1
    counts = torch.tensor([len(scans) for scans in first.scans])
    tensors = {"owner": torch.arange(len(counts)).repeat_interleave(counts)}
    for one in every:
        behind = f".{_output_of(one)}" if several else ""
        tensors[f"scans{behind}"] = torch.cat(one.scans).contiguous()
        for name in ("tabular", "target", *OPTIONAL):
            values: Tensor | None = getattr(one, name)
            if values is not None:
                tensors[f"{name}{behind}"] = values.contiguous()
    metadata = {
        "format": FORMAT_OF_SEVERAL if several else FORMAT,
        "method": first.method,
        "score": first.score,
        "outputs": str(first.outputs),
        "output_names": json.dumps(list(output_names), ensure_ascii=False),
        "sample_id": json.dumps(first.sample_id, ensure_ascii=False),
    }
    if several:
        metadata["sets"] = json.dumps([_output_of(one) for one in every])
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(save(tensors, metadata), path.parent, path.name, durable=False)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def read_explained(path: str | Path, output: int | None = None) -> Explained:
    """Read back a set that :func:`write_explained` wrote.

    Args:
        path: The file.
        output: The number of the output that is explained; None for the only set there is.

    Raises:
        UsageError: There is no such file, it holds something else, or several sets of which
            ``output`` names none.
    """
    try:
        with safe_open(str(path), "pt") as file:
            told = file.metadata() or {}
            if told.get("format") not in (FORMAT, FORMAT_OF_SEVERAL):
                raise UsageError(f"{path} does not hold attributions, but {told.get('format')}")
            behind = _suffix(path, json.loads(told.get("sets", "[]")), output)
            tensors = {
                name.removesuffix(behind): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if name == "owner" or name.endswith(behind)
            }
    except (OSError, SafetensorError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be read as attributions: {reason}") from error
    counts = torch.bincount(tensors["owner"], minlength=len(tensors["target"]))
    return Explained(
        method=told["method"],
        sample_id=json.loads(told["sample_id"]),
        target=tensors["target"],
        scans=list(tensors["scans"].split(counts.tolist())),
        tabular=tensors["tabular"],
        change=tensors.get("change"),
        gap=tensors.get("gap"),
        score=told["score"],
        outputs=int(told["outputs"]),
    )


def _output_of(explained: Explained) -> int:
    """The output that all samples of a set are explained for."""
    return int(explained.target[0])


def _suffix(path: str | Path, sets: Sequence[int], output: int | None) -> str:
    """What stands behind the names of a set's tensors."""
    if not sets:  # one set, whose samples may be explained for different classes
        return ""
    if output not in sets:
        asked = "several sets" if output is None else f"no set of output {output}"
        raise UsageError(f"{path} holds {asked}; choose an output of {', '.join(map(str, sets))}")
    return f".{output}"
