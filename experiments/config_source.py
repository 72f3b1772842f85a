"""From a name, a file and the command line to a checked configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

from datasets.errors import UsageError, nearest
from experiments.config import Config
from experiments.yaml_text import read_yaml

CONFIGS = Path(__file__).parent / "configs"
SUFFIXES = (".yaml", ".yml", ".json")


def load_config(source: str, overrides: Sequence[tuple[str, str]] = ()) -> Config:
    """Read a configuration; the command line wins over the file, the file over the defaults.

    Args:
        source: A name in ``experiments/configs`` or a path to a YAML or JSON file.
        overrides: Pairs of a dotted key and its value as YAML text.

    Raises:
        UsageError: One line that names the key, what was expected and the nearest valid key.
    """
    path = find_config(source)
    try:
        values = read_yaml(path.read_text(encoding="utf-8"), str(path))
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: not UTF-8 text (byte {error.start})") from error
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected sections and keys, got {type(values).__name__}")
    values.setdefault("exp_name", path.stem)
    for key, text in overrides:
        set_key(values, key, read_yaml(text, f"--{key}"))
    return check_config(values)


def find_config(source: str) -> Path:
    """The file of a configuration's name, or the file itself."""
    if Path(source).suffix in SUFFIXES:
        if not Path(source).is_file():
            siblings = [str(p) for p in Path(source).parent.glob("*") if p.suffix in SUFFIXES]
            raise UsageError(
                f"configuration file {source} does not exist{nearest(source, siblings)}"
            )
        return Path(source)
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
        if inner is None:
            inner = values[section] = {}
        if not isinstance(inner, dict):
            raise UsageError(f"--{key}: '{section}' is a value, not a section")
        values = inner
    values[last] = value


def check_config(values: Mapping[str, Any]) -> Config:
    """Check plain values against the schema.

    Raises:
        UsageError: One line for the first thing that is wrong.
    """
    try:
        return Config.model_validate(values)
    except ValidationError as error:
        raise UsageError(_one_line(error)) from error


def _one_line(error: ValidationError) -> str:
    # An unknown key is most often a misspelt one: more telling than what its absence breaks.
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    # Pydantic adds the tried alternative of a union to the path: `str`, `Named`, `nullable[...]`.
    alternatives = {"str", "Named", "int", "float"}
    location = [part for part in first["loc"] if part not in alternatives]
    path = ".".join(str(part) for part in location)
    if first["type"] == "extra_forbidden":
        return f"unknown key '{path}'{_nearest_key(path)}"
    message = first["msg"].removeprefix("Value error, ")
    if not path:
        return message  # what concerns several sections names them itself
    message = message[0].lower() + message[1:]
    if first["type"] == "missing":
        return f"{path}: this key is required here"
    return f"{path}: {message}, got {first['input']!r}"


def _nearest_key(path: str) -> str:
    keys = all_keys(Config)
    parent, _, leaf = path.rpartition(".")
    siblings = {k.rpartition(".")[2]: k for k in keys if k.rpartition(".")[0] == parent}
    anywhere = {k.rpartition(".")[2]: k for k in reversed(keys)}
    # A slip of the pen in this section first, then the right key in the wrong section.
    for names in (siblings, anywhere):
        close = get_close_matches(leaf, names, n=1)
        if close:
            return f"; did you mean '{names[close[0]]}'?"
    return f" (choices: {', '.join(siblings)})" if siblings else ""


def all_keys(schema: type[BaseModel], prefix: str = "") -> list[str]:
    """Every key of the schema as a dotted path, sections before their keys."""
    keys = []
    for name, field in schema.model_fields.items():
        keys.append(prefix + name)
        for kind in (field.annotation, *get_args(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                keys.extend(all_keys(kind, f"{prefix}{name}."))
    return keys
