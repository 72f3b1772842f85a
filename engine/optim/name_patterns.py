"""Patterns that name parameters: ``encoder``, ``encoder.blocks.0``, ``*.bias``."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase

from torch import nn

from datasets.errors import UsageError, nearest


def matches(pattern: str, name: str) -> bool:
    """Whether a pattern means a name: the name itself, or a module that it is in.

    Args:
        pattern: With the wildcards ``*``, ``?`` and ``[...]``, where ``*`` matches dots too.
        name: Of a parameter or a module.

    Example:
        >>> matches("encoder", "encoder.blocks.0.weight"), matches("*.bias", "encoder.weight")
        (True, False)
    """
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.*")


def refuse_unmatched(
    patterns: Iterable[str], names: Iterable[str], model: nn.Module, key: str
) -> None:
    """Refuse a pattern that means nothing.

    Args:
        patterns: To be checked.
        names: What they may match.
        model: Its modules are offered as choices too.
        key: Put before the message.

    Raises:
        UsageError: Names the pattern and the nearest choice.
    """
    names = list(names)
    for pattern in patterns:
        if not any(matches(pattern, name) for name in names):
            modules = [name for name, _ in model.named_modules() if name]
            choices = nearest(pattern, dict.fromkeys([*modules, *names]))
            raise UsageError(
                f"{key}: no parameter and no module with parameters is called '{pattern}'{choices}"
            )
