"""Fingerprint of a transform in plain types: its code, its settings, its learned state."""

from __future__ import annotations

import hashlib
import inspect
import json
import marshal
import pickle
from collections.abc import Mapping
from pathlib import Path
from types import FunctionType
from typing import Any

import numpy as np
from torch import Tensor


def transform_fingerprint(value: Any) -> Any:
    """Describe a transform, or a part of one, so that it is equal where the results are.

    Objects are described by their class, the text of the class's file, and their attributes; arrays
    by their bytes. Imports of that file are not looked at. The result is plain types for ``json``.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, Tensor):
        return transform_fingerprint(value.detach().cpu().numpy())
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        return [array.dtype.str, list(array.shape), _sha256(array.tobytes())]
    if isinstance(value, Mapping):
        return {str(key): transform_fingerprint(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [transform_fingerprint(part) for part in value]
    if isinstance(value, FunctionType):
        inside = [cell.cell_contents for cell in value.__closure__ or ()]
        given = [value.__defaults__, value.__kwdefaults__, inside]
        return {
            "function": _name(value),
            "code": _code(value),
            "state": transform_fingerprint(given),
        }
    if isinstance(value, type):
        return _name(value)
    if hasattr(value, "__dict__"):
        return {
            "class": _name(type(value)),
            "source": _source(type(value)),
            "state": transform_fingerprint(vars(value)),
        }
    return _sha256(pickle.dumps(value))


def plain_digest(value: Any) -> str:
    """SHA-256 of plain types, the same in each process."""
    return _sha256(json.dumps(value, sort_keys=True).encode())


def _source(cls: type[Any]) -> str:
    try:
        file = inspect.getsourcefile(cls)
    except TypeError:
        file = None
    if file is not None and Path(file).is_file():
        return _sha256(Path(file).read_bytes())
    functions = [part for part in vars(cls).values() if isinstance(part, FunctionType)]
    return _sha256("".join(map(_code, functions)).encode())


def _code(function: FunctionType) -> str:
    return _sha256(marshal.dumps(function.__code__))


def _name(thing: Any) -> str:
    return f"{thing.__module__}.{thing.__qualname__}"


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
