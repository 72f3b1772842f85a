"""From a name, a file and the command line to a checked configuration."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from datasets.errors import UsageError, nearest
from datasets.paths import as_path
from experiments.config.components import alternatives
from experiments.config.schema import Config
from experiments.config.typed_values import parameters_of, read_override, typed
from experiments.config.yaml_text import Written, read_written

CONFIGS = Path(__file__).parents[1] / "configs"
SUFFIXES = (".yaml", ".yml", ".json")
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

    Raises:
        UsageError: One line that names the key, what was expected and the nearest valid key.
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
    for key, text in overrides:
        set_key(written, key, read_override(text, _type_of(key), f"--{key}"))
    try:
        # First what can be told without the imports that the types of parameters take.
        check_config(typed(_without_params(written), Config))
        return check_config(typed(written, Config))
    except RecursionError as error:
        raise UsageError("a value holds itself, or is nested too deeply") from error


def _without_params(written: Any) -> Any:
    if isinstance(written, dict):
        return {k: _without_params(v) for k, v in written.items() if k != "params"}
    return [_without_params(v) for v in written] if isinstance(written, list) else written


def find_config(source: str) -> Path:
    """The file of a configuration's name, or the file itself."""
    file = as_path(source)
    if file.suffix in SUFFIXES:
        if not file.is_file():
            siblings = [str(p) for p in file.parent.glob("*") if p.suffix in SUFFIXES]
            raise UsageError(
                f"configuration file {source} does not exist{nearest(source, siblings)}"
            )
        return file
    path = CONFIGS / f"{source}.yaml"
    if not path.is_file():
        names = sorted(p.stem for p in CONFIGS.glob("*.yaml"))
        raise UsageError(f"no configuration is called '{source}'{nearest(source, names)}")
    return path


def set_key(values: dict[str, Any], key: str, value: Any) -> None:
    """Set ``a.b.c`` in nested dictionaries.

    Example:
        >>> values = {"trainer": {"max_epochs": 3}}
        >>> set_key(values, "trainer.batch_size", 8)
        >>> values
        {'trainer': {'max_epochs': 3, 'batch_size': 8}}
    """
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
    """What is wrong with values, in one line that names the key.

    ``key`` is that of the values, where they are a part of a configuration. Pydantic's own words
    for the alternatives of a union are not among the keys of plain values.
    """
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
    hint = ""
    if first["type"] == "literal_error" and isinstance(first["input"], str):
        choices = re.findall("'([^']+)'", first["ctx"]["expected"])
        close = get_close_matches(first["input"], choices, n=1)
        hint = f"; did you mean '{close[0]}'?" if close else ""
    return f"{path}: {message}, got {shown}{hint}"


def _keys(location: Sequence[int | str], values: Any) -> list[str]:
    """The part of an error's location that is in the values."""
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
    """The text, or its beginning where it is longer.

    Example:
        >>> shorten("abcdefgh", 6)
        'abc...'
    """
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
    found = (k for k in (*kinds, *inner) if isinstance(k, type) and issubclass(k, BaseModel))
    return next(found, None)


def _type_of(key: str) -> Any:
    """The type of a dotted key; Any of one that the schema does not have."""
    *parents, leaf = key.split(".")
    section: type[BaseModel] | None = Config
    for part in parents:
        field = section.model_fields.get(part) if section is not None else None
        section = _section_among(alternatives(field.annotation)) if field is not None else None
    field = section.model_fields.get(leaf) if section is not None else None
    return Any if field is None else field.annotation


def all_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of the schema as a dotted path, sections before their keys."""
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys.extend(all_keys(kind, f"{prefix}{name}."))
    return keys
