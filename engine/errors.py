"""The errors that handlers and the engine raise for what a user can mend."""

from __future__ import annotations

from datasets.errors import UsageError, nearest

__all__ = ["UsageError", "check_whole", "nearest"]


def check_whole(name: str, value: object, at_least: int = 1) -> int:
    """Refuse what is not a whole number, or too small.

    Args:
        name: The setting, for the error line.
        value: What the user gave.
        at_least: The smallest valid number.

    Returns:
        The value.

    Raises:
        UsageError: Says what was expected.

    Example:
        >>> check_whole("validation.every", 2)
        2
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
        raise UsageError(f"{name} must be a whole number, at least {at_least}, not {value!r}")
    return value
