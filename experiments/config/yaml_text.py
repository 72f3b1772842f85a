"""YAML 1.2's core schema: 3e-4 is a number, 010 is 10; ``no``, 12:30 and 2024-01-15 are text."""

import math
import re
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Any

import yaml

from datasets.errors import UsageError

PREFIX = "tag:yaml.org,2002:"
NULL_TAG, BOOL_TAG, INT_TAG, FLOAT_TAG, MERGE_TAG = (
    PREFIX + name for name in ("null", "bool", "int", "float", "merge")
)
FLOAT = (
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
# Tag, pattern, first characters. PyYAML follows YAML 1.1, in which 3e-4 is text, `no` is False and
# 010 is 8. The merge key is no part of the core schema, but widely used.
CORE_SCHEMA: tuple[tuple[str, str, list[str]], ...] = (
    (NULL_TAG, r"~|null|Null|NULL|", [*"~nN", ""]),
    (BOOL_TAG, r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    (INT_TAG, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (FLOAT_TAG, FLOAT, [*"-+.0123456789"]),
    (MERGE_TAG, r"<<", ["<"]),
)
BASES = {"0o": 8, "0x": 16}
CORE_TAGS = (NULL_TAG, BOOL_TAG, INT_TAG, FLOAT_TAG, *(PREFIX + n for n in ("str", "seq", "map")))


@dataclass(frozen=True)
class Written:
    """A scalar that does not look like text: what it looks like, and what was written."""

    value: float | bool | None
    text: str


class CoreLoader(yaml.SafeLoader):
    """A safe loader of the core schema that refuses repeated keys."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """Refuse a key that stands twice; PyYAML would silently keep the last."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)  # type: ignore[no-untyped-call]
        seen = set()
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == MERGE_TAG:
                continue
            key = self.construct_object(key_node)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key_node.value}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return node

    def construct_core_int(self, node: yaml.ScalarNode) -> int:
        """Construct a decimal, octal (0o) or hexadecimal (0x) number."""
        return int(node.value, BASES.get(node.value[:2], 10))


class WrittenLoader(CoreLoader):
    """A loader that gives numbers, booleans and null as :class:`Written`."""


class CoreDumper(yaml.SafeDumper):
    """A safe dumper that quotes exactly what :class:`CoreLoader` would misread."""


def _use_core_schema(cls: Any) -> None:
    cls.yaml_implicit_resolvers = {}
    # Integers are resolved before floats, so that 1 stays an integer.
    for tag, pattern, first in CORE_SCHEMA:
        cls.add_implicit_resolver(tag, re.compile(f"^(?:{pattern})$"), first)


for _cls in (CoreLoader, WrittenLoader, CoreDumper):
    _use_core_schema(_cls)
CoreLoader.yaml_constructors = {
    tag: make
    for tag, make in yaml.SafeLoader.yaml_constructors.items()
    if tag in (*CORE_TAGS, None)
}
CoreLoader.add_constructor(INT_TAG, CoreLoader.construct_core_int)


def _keep_written(loader: WrittenLoader, node: yaml.ScalarNode) -> Written:
    return Written(CoreLoader.yaml_constructors[node.tag](loader, node), node.value)


for _tag in (NULL_TAG, BOOL_TAG, INT_TAG, FLOAT_TAG):
    WrittenLoader.add_constructor(_tag, _keep_written)


def read_yaml(text: str, source: str) -> Any:
    """Parse YAML (or JSON, which is YAML too); 3e-4 is a number, 010 is 10, yes and no are text."""
    return _load(text, source, CoreLoader)


def read_written(text: str, source: str) -> Any:
    """Parse YAML like :func:`read_yaml`; what does not look like text is :class:`Written`."""
    return _load(text, source, WrittenLoader)


def _load(text: str, source: str, loader: type[CoreLoader]) -> Any:
    try:
        return yaml.load(text, loader)
    except RecursionError as error:
        raise UsageError(f"{source}: not valid YAML here: nested too deeply") from error
    except (yaml.YAMLError, ValueError, KeyError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{source}{where}: not valid YAML: {problem}") from error


def write_yaml(value: Any) -> str:
    """Write plain types as YAML that :func:`read_yaml` reads back to the same."""
    return yaml.dump(value, Dumper=CoreDumper, sort_keys=False, allow_unicode=True)


def write_inline(value: Any) -> str:
    """The same on one line, as it may stand behind a key."""
    written: str = yaml.dump(
        value,
        Dumper=CoreDumper,
        sort_keys=False,
        allow_unicode=True,
        default_flow_style=True,
        width=math.inf,
    )
    return written.removesuffix("...\n").strip()
