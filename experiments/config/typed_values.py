"""Values by what their key wants: 010 is text for a column's name, and ten for a number."""

from __future__ import annotations

import inspect
import types
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel

from datasets.errors import UsageError
from experiments.config.components import alternatives, find_named, parameter_types
from experiments.config.yaml_text import Written, read_written

# Where names are looked up whose `params` go to a constructor; imported where params are given.
REGISTRIES = {
    "model": "models.MODELS",
    "loss": "engine.losses.LOSSES",
    "optimizer": "engine.optim.OPTIMIZERS",
    "handlers": "handlers.HANDLERS",
    "data.transforms": "datasets.transforms.TRANSFORMS",
    "data.augmentations": "datasets.augmentations.AUGMENTATIONS",
}
NUMBERS = {int, float, bool}
TEXTS = {str, Path}
NULLS = ("null", "Null", "NULL")


def typed(value: Any, wanted: Any, key: str = "") -> Any:
    """Turn what was written into plain values, by the type that its key has.

    ``wanted`` is a type as it is annotated; Any takes what was written by its looks.

    Example:
        >>> typed({"a": Written(10, "010")}, dict[str, str]), typed([Written(10, "010")], Any)
        ({'a': '010'}, [10])
    """
    kinds = alternatives(wanted)
    if isinstance(value, Written):
        return _scalar(value, kinds, key)
    if isinstance(value, dict):
        return _mapping(value, kinds, key)
    if isinstance(value, list):
        items = [t for kind in kinds for t in _items(kind, Sequence) if t is not ...]
        # A tuple has a type for each of its items.
        each = items if len(items) == len(value) else [_union(items)] * len(value)
        return [
            typed(item, kind, f"{key}.{n}" if key else str(n))
            for n, (item, kind) in enumerate(zip(value, each, strict=True))
        ]
    return value


def read_override(text: str, wanted: Any, key: str) -> Any:
    """Read a value of the command line; a key of text alone takes it as it stands.

    ``text`` is YAML, unless ``wanted`` is text. Returns what :func:`typed` takes.

    Example:
        >>> read_override("a #1: b", str, "--data.group"), read_override("2", int, "--seed")
        ('a #1: b', Written(value=2, text='2'))
    """
    kinds = set(alternatives(wanted))
    if kinds <= {*TEXTS, types.NoneType} and not text.lstrip().startswith(('"', "'")):
        is_null = types.NoneType in kinds and text in NULLS
        value = Written(None, text) if is_null else text.strip()
    else:
        value = read_written(text, key)
    if value is None or value == "":  # a comment, or nothing at all
        raise UsageError(f"{key} is empty{_instead(kinds)}")
    return value


def _instead(kinds: Container[Any]) -> str:
    return "; give a value, or null for none" if types.NoneType in kinds else "; give a value"


def _scalar(written: Written, kinds: Sequence[Any], key: str) -> Any:
    if not written.text:
        raise UsageError(f"{key} is empty{_instead(kinds)}")
    # A bare name stands for a list of one, and for a section that has only a name.
    items = [item for kind in kinds for item in _items(kind, Sequence)]
    kinds = [*kinds, *(kind for item in items for kind in alternatives(item))]
    sections = [kind for kind in kinds if _is_section(kind) and "name" in kind.model_fields]
    wants = {*kinds, *(str for _ in sections)}
    if written.value is None:
        return Path("~") if written.text == "~" and Path in wants else None
    if wants & TEXTS and (not wants & NUMBERS or str(written.value) != written.text):
        return written.text
    return written.value


def _mapping(value: Mapping[Any, Any], kinds: Sequence[Any], key: str) -> dict[str, Any]:
    section = next((kind for kind in kinds if _is_section(kind)), None)
    pairs = next((args for kind in kinds if (args := _items(kind, Mapping))), (Any, Any))
    wanted: Mapping[str, Any] = {}
    if section is not None:
        wanted = {name: field.annotation for name, field in section.model_fields.items()}
        pairs = (str, Any)
    found = {}
    for given, inner in value.items():
        name = given
        if isinstance(given, Written):
            name = given.text if str in alternatives(pairs[0]) else given.value
        path = f"{key}.{name}" if key else str(name)
        if name in found:
            raise UsageError(f"{path} stands twice")
        if section is not None and name == "params":
            found[name] = _params(inner, value.get("name"), path)
        else:
            found[name] = typed(inner, wanted.get(name, pairs[1]), path)
    return found


def _params(params: Any, name: Any, key: str) -> Any:
    """Parameters by the annotations of the constructor that they go to."""
    make = _constructor(name, key)
    wanted = {} if make is None else parameter_types(make)
    if not isinstance(params, dict):
        return typed(params, dict[str, Any], key)
    found: dict[str, Any] = {}
    for given, inner in params.items():
        name = given.text if isinstance(given, Written) else given
        if name in found:
            raise UsageError(f"{key}.{name} stands twice")
        found[name] = typed(inner, wanted.get(name, Any), f"{key}.{name}")
    return found


def parameters_of(values: Any, path: Sequence[str]) -> tuple[str, ...]:
    """The parameters of what a section names, none where that is not known.

    ``path`` are the keys and places in lists that lead to the section.
    """
    for part in path:
        values = values[int(part) if isinstance(values, list | tuple) else part]
    make = _constructor(values.get("name"), ".".join([*path, ""]))
    return () if make is None else tuple(inspect.signature(make).parameters)


def _constructor(name: Any, key: str) -> Any:
    """What the parameters of a section go to, None where that is not known."""
    if key.startswith("lr_scheduler."):
        name = "handlers.lr_schedule.LRSchedule"
    path = next((path for start, path in REGISTRIES.items() if key.startswith(f"{start}.")), None)
    if isinstance(name, str):
        # What is wrong with a name is told by who looks it up to use it.
        with suppress(UsageError, ImportError):
            return find_named(name, resolve_name(path) if path else {}, key)
    return None


def _is_section(kind: Any) -> bool:
    return inspect.isclass(kind) and issubclass(kind, BaseModel)


def _items(kind: Any, of: type) -> tuple[Any, ...]:
    """The arguments of a container's type, where it is such a container."""
    origin = get_origin(kind)
    return get_args(kind) if inspect.isclass(origin) and issubclass(origin, of) else ()


def _union(kinds: Sequence[Any]) -> Any:
    return Union[tuple(kinds)] if kinds else Any  # noqa: UP007
