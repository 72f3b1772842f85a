"""From a name, a file and the command line to a checked configuration."""

import inspect
import re
import types
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from datasets.errors import UsageError
from experiments.config.components import alternatives, find_named, parameter_types
from experiments.config.names import find_config
from experiments.config.schema import Config
from experiments.config.yaml_text import Written, read_written

# Of a value that is not valid.
LONGEST_SHOWN = 60
# In place of messages that name Python's types.
WORDS = {
    "model_type": "a section with keys was expected",
    "dict_type": "keys with values were expected",
    "list_type": "a list was expected",
    "tuple_type": "a list was expected",
    "path_type": "a path was expected",
}


def load_config(source: str, overrides: Sequence[tuple[str, str]] = ()) -> Config:
    """Read a configuration; the command line wins over the file, the file over the defaults.

    ``source`` is a name in ``experiments/configs`` or a path to a YAML or JSON file; ``overrides``
    are dotted keys and values as YAML text.
    """
    path = find_config(source)
    try:
        written = read_written(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror}") from error
    if not isinstance(written, dict | None):
        raise UsageError(f"{path}: expected sections and keys, got {type(written).__name__}")
    written = written or {}
    written.setdefault("exp_name", path.stem)
    return check_written(written, overrides)


def check_written(written: dict[str, Any], overrides: Sequence[tuple[str, str]]) -> Config:
    """Check :func:`experiments.config.yaml_text.read_written`'s values, with overrides."""
    data = written.get("data")
    if isinstance(data, dict) and any(key == "data.root" for key, _ in overrides):
        data.pop("simulated", None)  # the command line's cohort replaces the file's simulated one
    for key, text in overrides:
        *parents, leaf = key.split(".")
        field = _section_at(parents, Config).model_fields.get(leaf)
        wanted = Any if field is None else field.annotation  # of an unknown key, by its looks
        set_key(written, key, read_override(text, wanted, f"--{key}"))
    try:
        # First what can be told without the imports that the types of parameters take.
        check_config(typed(_without_params(written), Config))
        nulls = [key for key, text in overrides if text.strip() in NULLS]
        return check_config(typed(written, Config)).with_nulls(nulls)
    except RecursionError as error:
        raise UsageError("a value holds itself, or is nested too deeply") from error


def _without_params(written: Any) -> Any:
    if isinstance(written, dict):
        return {k: _without_params(v) for k, v in written.items() if k != "params"}
    return [_without_params(v) for v in written] if isinstance(written, list) else written


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.c`` in nested dictionaries."""
    *sections, last = key.split(".")
    for section in sections:
        inner = values.get(section)
        if isinstance(inner, str):  # a bare name
            inner = values[section] = {"name": inner}
        if inner is None or inner == Written(None, "null"):
            inner = values[section] = {}
        if not isinstance(inner, dict):
            raise UsageError(f"--{key}: '{section}' is a value, not a section")
        values = inner
    values[last] = value


def check_config(values: Mapping[str, Any]) -> Config:
    """Check plain values against the schema."""
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(one_line(error, values)) from error


def one_line(
    error: ValidationError, values: Any, schema: type[BaseModel] = Config, key: str = ""
) -> str:
    """What is wrong with values, which stand at ``key``, in one line that names the key."""
    # An unknown key is most often a misspelt one: more telling than what its absence breaks.
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    keys = _keys(first["loc"], values)
    within = [key] if key else []
    if first["type"] == "missing":
        return f"{'.'.join([*within, *keys, str(first['loc'][-1])])}: this key is required here"
    path = ".".join([*within, *keys])
    if first["type"] == "extra_forbidden":
        return f"unknown key '{path}'{_nearest_key(keys, schema, values, within)}"
    message = WORDS.get(first["type"], first["msg"].removeprefix("Value error, "))
    if not path:
        return message  # what concerns several sections names them itself
    message = message[0].lower() + message[1:]
    shown = shorten(repr(first["input"]), LONGEST_SHOWN)
    close = []
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = re.findall("'([^']+)'", first["ctx"]["expected"])
        close = get_close_matches(first["input"], choices, n=1)
    hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{path}: {message}, got {shown}{hint}"


def _keys(location: Sequence[int | str], values: Any) -> list[str]:
    """The part of an error's location that is in the values, not a word of Pydantic's."""
    keys = []
    for part in location:
        if isinstance(values, Mapping):
            there = part in values
        else:
            there = isinstance(values, list | tuple) and part in range(len(values))
        if there:
            keys.append(str(part))
            values = values[part]
    return keys


def shorten(text: str, longest: int) -> str:
    """The text, or its beginning and "..." where it is longer."""
    return text if len(text) <= longest else f"{text[: longest - 3]}..."


def _nearest_key(
    path: Sequence[str], schema: type[BaseModel], values: Any, within: Sequence[str]
) -> str:
    *parents, leaf = path
    section = _section_at(parents, schema)
    inside = ".".join([*within, *parents])
    own = {name: f"{inside}.{name}" if inside else name for name in section.model_fields}
    anywhere = {k.rpartition(".")[2]: k for k in reversed(all_keys(schema))}
    # A slip of the pen in this section first, then a parameter of what is named here, then the
    # right key in the wrong section.
    close = get_close_matches(leaf, own, n=1)
    if close:
        return f"; did you mean '{own[close[0]]}'?"
    if "params" in own and (leaf not in anywhere or leaf in parameters_of(values, parents)):
        return f"; did you mean '{own['params']}.{leaf}'?"
    close = get_close_matches(leaf, anywhere, n=1)
    if close:
        return f"; did you mean '{anywhere[close[0]]}'?"
    return f" (choices: {', '.join(own)})"


def _section_at(path: Sequence[str], schema: type[BaseModel]) -> type[BaseModel]:
    """The section that a path of keys and places in lists leads to."""
    kinds: list[Any] = [schema]
    for part in path:
        section = _section_among(kinds)
        if not part.isdigit() and section is not None:
            field = section.model_fields.get(part)
            kinds = alternatives(field.annotation) if field is not None else []
    return _section_among(kinds) or schema


def _section_among(kinds: Sequence[Any]) -> type[BaseModel] | None:
    inner = [kind for one in kinds for arg in get_args(one) for kind in alternatives(arg)]
    return next(filter(_is_section, (*kinds, *inner)), None)


def all_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of the schema as a dotted path, sections before their keys."""
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if _is_section(kind):
                keys.extend(all_keys(kind, f"{prefix}{name}."))
    return keys


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

    ``wanted`` is a type as it is annotated; by Any 010 is 10, by str it is "010".
    """
    kinds = alternatives(wanted)
    if isinstance(value, Written):
        return _scalar(value, kinds, key)
    if isinstance(value, dict):
        return _mapping(value, kinds, key)
    if isinstance(value, list):
        items = [t for kind in kinds for t in _items(kind, Sequence) if t is not ...]
        any_of = Union[tuple(items)] if items else Any  # noqa: UP007
        # A tuple has a type for each of its items.
        each = items if len(items) == len(value) else [any_of] * len(value)
        return [
            typed(item, kind, f"{key}.{n}" if key else str(n))
            for n, (item, kind) in enumerate(zip(value, each, strict=True))
        ]
    return value


def read_override(text: str, wanted: Any, key: str) -> Any:
    """Read a value of the command line, for :func:`typed`; YAML unless ``wanted`` is text."""
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
    if section is None:
        pairs = next((args for kind in kinds if (args := _items(kind, Mapping))), (Any, Any))
        return _typed_pairs(value, {}, pairs, key)
    wanted = {name: field.annotation for name, field in section.model_fields.items()}
    return _typed_pairs(value, wanted, (str, Any), key, "params")


def _typed_pairs(
    value: Mapping[Any, Any],
    wanted: Mapping[str, Any],
    pairs: tuple[Any, ...],
    key: str,
    params: str = "",
) -> dict[str, Any]:
    """Keys and values by the types that are ``wanted``, others by those of ``pairs``.

    Those below ``params`` are typed as the constructor that they go to is annotated.
    """
    found: dict[str, Any] = {}
    for given, inner in value.items():
        name = given
        if isinstance(given, Written):
            name = given.text if str in alternatives(pairs[0]) else given.value
        path = f"{key}.{name}" if key else str(name)
        if name in found:
            raise UsageError(f"{path} stands twice")
        if name == params and isinstance(inner, dict):
            make = _constructor(value.get("name"), path)
            types_of = {} if make is None else parameter_types(make)
            found[name] = _typed_pairs(inner, types_of, (str, Any), path)
        else:
            found[name] = typed(inner, wanted.get(name, pairs[1]), path)
    return found


def parameters_of(values: Any, path: Sequence[str]) -> tuple[str, ...]:
    """The parameters of what the section at ``path`` names, none where that is not known."""
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
