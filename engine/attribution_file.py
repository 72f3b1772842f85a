"""Attributions of single samples in one safetensors file."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engine.attribution_results import Explained
from engine.errors import UsageError
from engine.files import write_whole

FORMAT = "scanfire attributions 1"
OPTIONAL = ("change", "gap")


def write_explained(explained: Explained, path: Path) -> None:
    """Write a file that any reader of safetensors can read; the intensities are left out.

    Tensors: ``scans`` float32 [R, L], the real scans of all samples one behind the other;
    ``owner`` long [R], the number of the sample that each of them is of; ``tabular`` [N, D];
    ``target`` [N]; ``change`` and ``gap`` [N] where there are any. Metadata: ``format``,
    ``method``, ``score``, ``outputs``, and ``sample_id``, N names as a JSON list.

    Args:
        explained: At least one sample.
        path: Its folder is made where there is none; an earlier file is replaced as a whole.

    Raises:
        UsageError: It cannot be written.
    """
    counts = torch.tensor([len(scans) for scans in explained.scans])
    tensors = {
        "scans": torch.cat(explained.scans).contiguous(),
        "owner": torch.arange(len(counts)).repeat_interleave(counts),
        "tabular": explained.tabular.contiguous(),
        "target": explained.target.contiguous(),
    }
    for name in OPTIONAL:
        values: Tensor | None = getattr(explained, name)
        if values is not None:
            tensors[name] = values.contiguous()
    metadata = {
        "format": FORMAT,
        "method": explained.method,
        "score": explained.score,
        "outputs": str(explained.outputs),
        "sample_id": json.dumps(explained.sample_id, ensure_ascii=False),
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(save(tensors, metadata), path.parent, path.name, durable=False)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error


def read_explained(path: str | Path) -> Explained:
    """Read back what :func:`write_explained` wrote.

    Args:
        path: The file.

    Raises:
        UsageError: There is no such file, or it holds something else.
    """
    try:
        with safe_open(str(path), "pt") as file:
            told = file.metadata() or {}
            if told.get("format") != FORMAT:
                raise UsageError(f"{path} does not hold attributions, but {told.get('format')}")
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
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
