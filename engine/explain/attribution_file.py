"""Attributions of single samples in one safetensors file."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from datasets.errors import UsageError
from engine.explain.attribution_results import Explained
from engine.files import write_whole

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
