"""YAML as people expect it: 3e-4 is a number, ``no`` is a word, a key may stand only once."""

from __future__ import annotations

import re
from collections.abc import Hashable
from typing import Any

import yaml

from datasets.errors import UsageError

BOOL_TAG, FLOAT_TAG = "tag:yaml.org,2002:bool", "tag:yaml.org,2002:float"
# YAML 1.2's core schema; PyYAML follows 1.1, in which 3e-4 is text and `no` is False.
CORE_BOOL = re.compile(r"^(?:true|True|TRUE|false|False|FALSE)$")
CORE_FLOAT = re.compile(
    r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$"
)
NUMBER_STARTS, BOOL_STARTS = list("-+.0123456789"), list("tTfF")


class CoreLoader(yaml.SafeLoader):
    """A safe loader with the core schema's numbers and booleans, and no repeated keys."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """Refuse a key that stands twice; PyYAML would silently keep the last."""
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)  # type: ignore[no-untyped-call]
            if isinstance(key, Hashable) and key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key}' stands twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


class CoreDumper(yaml.SafeDumper):
    """A safe dumper that quotes exactly what :class:`CoreLoader` would misread."""


def _use_core_schema(cls: Any) -> None:
    cls.yaml_implicit_resolvers = {
        first: [(tag, regexp) for tag, regexp in resolvers if tag not in (BOOL_TAG, FLOAT_TAG)]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    cls.add_implicit_resolver(BOOL_TAG, CORE_BOOL, BOOL_STARTS)
    # Added last, floats come after integers, so that 1 stays an integer.
    cls.add_implicit_resolver(FLOAT_TAG, CORE_FLOAT, NUMBER_STARTS)


_use_core_schema(CoreLoader)
_use_core_schema(CoreDumper)


def read_yaml(text: str, source: str) -> Any:
    """Parse YAML (or JSON, which is YAML too).

    Args:
        text: The document.
        source: What to call it in an error.

    Raises:
        UsageError: Says where the text is no YAML.

    Example:
        >>> read_yaml("{lr: 3e-4, labels: {yes: 1, no: 0}}", "here")
        {'lr': 0.0003, 'labels': {'yes': 1, 'no': 0}}
    """
    try:
        return yaml.load(text, CoreLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}, column {mark.column + 1}" if mark else ""
        problem = getattr(error, "problem", None) or " ".join(str(error).split())
        raise UsageError(f"{source}{where}: not valid YAML: {problem}") from error


def write_yaml(value: Any) -> str:
    """Write plain types as YAML that :func:`read_yaml` reads back to the same.

    Example:
        >>> print(write_yaml({"a": "1e-3", "b": 1e-3, "c": "no"}), end="")
        a: '1e-3'
        b: 0.001
        c: no
    """
    return yaml.dump(value, Dumper=CoreDumper, sort_keys=False, allow_unicode=True)
