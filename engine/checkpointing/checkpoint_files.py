"""The checkpoint file: all states in one archive that contains its own checksum.

It is what ``torch.save`` writes (``torch.load(path, weights_only=True)`` opens it), with a comment
at the archive's end: the SHA-256 of every byte before it.
"""

import hashlib
import io
import os
import pickle
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from datasets.errors import UsageError, file_errors, nearest, one_line
from datasets.files import write_whole
from engine.distributed import gather, is_sharded, to_local

LAST_NAME = "last.pt"
FORMAT, VERSION = "scanfire checkpoint", 1

ZIP_START = b"PK\x03\x04"
COMMENT = b"scanfire sha256 "
DIGEST_CHARS = 64
# A zip archive ends with the length of its comment in two bytes, then the comment.
LENGTH_BYTES = 2

PLAIN = (bool, int, float, str, bytes, type(None))


class CheckpointError(UsageError):
    """A checkpoint that cannot be written, read or used."""


def pack_checkpoint(states: Mapping[str, Any], meta: Mapping[str, Any] | None = None) -> memoryview:
    """The bytes of a checkpoint of states, with ``meta`` for :func:`check_meta`."""
    about = dict(meta or {})
    content = {"format": FORMAT, "version": VERSION, "meta": about, "states": dict(states)}
    _check_plain(content, "")
    buffer = io.BytesIO()
    torch.save(content, buffer)
    buffer.seek(-LENGTH_BYTES, os.SEEK_END)
    buffer.write((len(COMMENT) + DIGEST_CHARS).to_bytes(LENGTH_BYTES, "little") + COMMENT)
    with buffer.getbuffer() as written:
        digest = hashlib.sha256(written).hexdigest()
    buffer.write(digest.encode())
    return buffer.getbuffer()


def save_checkpoint(
    path: Path, states: Mapping[str, Any], meta: Mapping[str, Any] | None = None
) -> None:
    """Write a checkpoint atomically; arguments as for :func:`pack_checkpoint`."""
    with file_errors(f"cannot save the checkpoint {path}", CheckpointError):
        write_whole(pack_checkpoint(states, meta), path.parent, path.name)


def load_checkpoint(path: Path) -> dict[str, Any]:
    """``states`` and ``meta`` of a whole checkpoint, on the CPU; nothing in it can run code."""
    with file_errors(f"cannot read the checkpoint {path}", CheckpointError):
        if not path.exists():
            there = sorted(file.name for file in path.parent.glob("*.pt"))
            hint = nearest(path.name, there) if there else ""
            raise CheckpointError(f"no checkpoint at {path}{hint}")
        data = path.read_bytes()
    if not data.startswith(ZIP_START):
        raise CheckpointError(f"{path} is no checkpoint")
    body, digest = memoryview(data)[:-DIGEST_CHARS], data[-DIGEST_CHARS:]
    if bytes(body[-len(COMMENT) :]) != COMMENT:
        reason = "it was cut off, or is not scanfire's"
        raise CheckpointError(f"{path} is no whole checkpoint: {reason}")
    if hashlib.sha256(body).hexdigest().encode() != digest:
        raise CheckpointError(f"{path} is damaged: its content does not match its checksum")
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError) as error:
        raise CheckpointError(f"{path} cannot be loaded: {one_line(error)}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise CheckpointError(f"{path} is no checkpoint of a training run")
    if content["version"] > VERSION:
        found = f"{path} has version {content['version']}"
        raise CheckpointError(f"{found}; this scanfire reads up to {VERSION}")
    return content


def newest_whole_checkpoint(folder: Path) -> tuple[Path, dict[str, Any], list[str]]:
    """Find where a run resumes: ``last.pt``, else the valid checkpoint with the most iterations.

    Returns the file, its content, and a line for each file skipped as missing or damaged.
    CheckpointError if none is valid.
    """
    last, skipped = folder / LAST_NAME, []
    found: tuple[int, Path, dict[str, Any]] | None = None
    for path in (last, *sorted(set(folder.glob("*.pt")) - {last})):
        try:
            content = load_checkpoint(path)
        except CheckpointError as error:
            skipped.append(str(error))
            continue
        if path == last:
            return last, content, []
        iteration = content["states"].get("trainer", {}).get("iteration", 0)
        if found is None or iteration > found[0]:
            found = iteration, path, content
    if found is None:
        raise CheckpointError(f"no whole checkpoint in {folder}: {'; '.join(skipped)}")
    return found[1], found[2], skipped


def check_meta(saved: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """CheckpointError, with all differences, for a checkpoint of other data or another model."""
    differences = []
    for name in _differing(saved, now):
        old, new = saved.get(name), now.get(name)
        inside = ""
        if isinstance(old, Mapping) and isinstance(new, Mapping):
            inside = f": {', '.join(_differing(old, new))}"
        differences.append(f"the {name} differs{inside}")
    if differences:
        listed = "; ".join(differences)
        raise CheckpointError(f"the checkpoint does not belong to this run: {listed}")


def broken_weight(model: nn.Module) -> str | None:
    """The first weight that is not finite, or buffer that holds NaN; one synchronisation.

    Buffers may be infinite on purpose (a mask). Collective if the model is sharded.
    """
    weights = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    whole = {}
    for name, value in model.state_dict().items():
        (tensor,) = to_local([value])
        if isinstance(tensor, Tensor) and tensor.is_floating_point():
            finite = torch.isfinite(tensor) if name in weights else ~torch.isnan(tensor)
            whole[name] = finite.all()
    flags = torch.stack(list(whole.values())).tolist() if whole else []
    broken = next((name for name, flag in zip(whole, flags, strict=True) if not flag), None)
    if not is_sharded(model):
        return broken
    return next((name for name in gather(broken) if name is not None), None)


def _differing(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    return [key for key in dict.fromkeys([*old, *new]) if old.get(key) != new.get(key)]


def _check_plain(value: object, where: str) -> None:
    """Raise at saving what would only fail at loading."""
    kind = type(value)
    if kind in PLAIN or isinstance(value, Tensor):
        return
    if kind in (dict, OrderedDict):
        for key, item in value.items():  # type: ignore[attr-defined]
            _check_plain(key, f"{where} key")
            _check_plain(item, f"{where}.{key}" if where else str(key))
    elif kind in (list, tuple, set, torch.Size):
        for item in value:  # type: ignore[attr-defined]
            _check_plain(item, where)
    else:
        raise TypeError(
            f"{where} holds a {kind.__module__}.{kind.__qualname__}; a state may hold tensors "
            "and plain Python values only"
        )
