"""Attributions of a batch and of many samples, their means, and their safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from datasets.errors import UsageError, file_errors, one_line
from datasets.files import write_whole


@dataclass(frozen=True)
class Attribution:
    """Contributions: ``spectra`` [B, S, L], ``tabular`` [B, D]; else as :class:`Explained`."""

    spectra: Tensor
    tabular: Tensor
    target: Tensor
    gap: Tensor | None = None
    change: Tensor | None = None
    outputs: int = 0


@dataclass(frozen=True)
class Explained:
    """Attributions of N single samples for the outputs ``target``, long [N], on the CPU.

    ``scans`` holds those of each sample's real scans, float32 [S_i, L], ``tabular`` those of the
    covariates [N, D]. ``change`` is f(x) - f(baseline), [N], None without a baseline; ``gap`` the
    sum of the contributions minus it, None without completeness. ``outputs`` is the number of the
    model's outputs, 0 if unknown; ``intensities`` the scans that the model was given, or None.
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
        """Some of the samples, in the order of ``rows``."""
        chosen = list(rows)
        of_samples = ("sample_id", "target", "scans", "tabular", "change", "gap", "intensities")
        taken: dict[str, Any] = {}
        for name in of_samples:
            values = getattr(self, name)
            if isinstance(values, list):
                values = [values[row] for row in chosen]
            taken[name] = values[chosen] if isinstance(values, Tensor) else values
        return replace(self, **taken)


@dataclass(frozen=True)
class Importance:
    """Mean attributions of many samples, on the CPU, in double precision.

    The mean over samples of |attribution|: ``points`` [L], summed over scans; ``covariates`` [D];
    ``scans`` [S], summed over points, meaningful if the order of scans is. ``gap`` is the mean
    |gap|.
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
    """Mean attributions by point, by covariate and by scan; UsageError without a sample."""
    samples = len(explained.scans)
    if not samples:
        raise UsageError("attribution: there is no sample to explain")
    each = [scans.double() for scans in explained.scans]
    points: Tensor = sum(torch.stack([s.abs().sum(dim=0), s.sum(dim=0)]) for s in each) / samples  # type: ignore[assignment]
    tabular = explained.tabular.double()
    # Of the s-th scan of each sample that has one: absolute, signed, and how many there are.
    by_scan = [torch.stack([s.abs().sum(1), s.sum(1), s.new_ones(len(s))], dim=1) for s in each]
    absolute, signed, count = nn.utils.rnn.pad_sequence(by_scan).sum(dim=1).T
    return Importance(
        points=points[0],
        covariates=tabular.abs().mean(dim=0),
        signed_points=points[1],
        signed_covariates=tabular.mean(dim=0),
        samples=samples,
        gap=None if explained.gap is None else float(explained.gap.double().abs().mean()),
        scans=absolute / count,
        signed_scans=signed / count,
    )


FORMAT, FORMAT_OF_SEVERAL = "scanfire attributions 1", "scanfire attributions 2"
OPTIONAL = ("change", "gap")


def write_explained(
    sets: Explained | Sequence[Explained], path: Path, output_names: Sequence[str] = ()
) -> None:
    """Write attributions, without intensities, as safetensors, with the folder.

    Tensors: ``scans`` float32 [R, L], the real scans of all samples; ``owner`` long [R], the
    sample's number of each; ``tabular``, ``target``, and ``change`` and ``gap`` if any. Of several
    sets the names are ``scans.<output>`` and so on, except ``owner``. Names are metadata, as JSON.
    """
    every = [sets] if isinstance(sets, Explained) else list(sets)
    first, several = every[0], len(every) > 1
    counts = torch.tensor([len(scans) for scans in first.scans])
    tensors = {"owner": torch.arange(len(counts)).repeat_interleave(counts)}
    for one in every:
        behind = f".{int(one.target[0])}" if several else ""
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
        metadata["sets"] = json.dumps([int(one.target[0]) for one in every])
    with file_errors(f"cannot write {path}"):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(save(tensors, metadata), path.parent, path.name, durable=False)


def read_explained(path: str | Path, output: int | None = None) -> Explained:
    """Read a set that :func:`write_explained` wrote, of several that of ``output``."""
    try:
        with safe_open(str(path), "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") not in (FORMAT, FORMAT_OF_SEVERAL):
                raise UsageError(f"{path} does not hold attributions, but {metadata.get('format')}")
            behind = _suffix(path, json.loads(metadata.get("sets", "[]")), output)
            tensors = {
                name.removesuffix(behind): file.get_tensor(name)
                for name in file.keys()  # noqa: SIM118
                if name == "owner" or name.endswith(behind)
            }
    except (OSError, SafetensorError) as error:
        raise UsageError(f"{path} cannot be read as attributions: {one_line(error)}") from error
    counts = torch.bincount(tensors["owner"], minlength=len(tensors["target"]))
    return Explained(
        method=metadata["method"],
        sample_id=json.loads(metadata["sample_id"]),
        target=tensors["target"],
        scans=list(tensors["scans"].split(counts.tolist())),
        tabular=tensors["tabular"],
        change=tensors.get("change"),
        gap=tensors.get("gap"),
        score=metadata["score"],
        outputs=int(metadata["outputs"]),
    )


def _suffix(path: str | Path, sets: Sequence[int], output: int | None) -> str:
    """The end of the names of a set's tensors."""
    if not sets:  # one set, with a class per sample
        return ""
    if output not in sets:
        asked = "several sets" if output is None else f"no set of output {output}"
        raise UsageError(f"{path} holds {asked}; choose an output of {', '.join(map(str, sets))}")
    return f".{output}"
