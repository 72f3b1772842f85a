"""What all command lines share: exit codes, overrides, and one line where a user is mistaken."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from datasets.errors import UsageError
from engine.terminal import safe_streams

USAGE_ERROR = 2
INTERRUPTED = 130  # what a shell says of a process that SIGINT ended


def complain(line: str) -> None:
    """Tell a person why nothing came of it."""
    print(line, file=sys.stderr, flush=True)


def run_command(
    work: Callable[[], int],
    interrupted: str = "interrupted",
    say: Callable[[str], None] = complain,
) -> int:
    """Do a command's work; what a user can mend is one line, a bug keeps its traceback.

    A closed pipe, a lost terminal or a character that it lacks does not end the work.

    Args:
        work: Returns the exit code.
        interrupted: Said where Ctrl-C ends it.
        say: Tells a person a line.

    Returns:
        The exit code.

    Example:
        >>> run_command(lambda: 0)
        0
    """
    with safe_streams():
        try:
            return work()
        except UsageError as error:
            say(f"error: {error}")
            return USAGE_ERROR
        except KeyboardInterrupt:
            say(interrupted)
            return INTERRUPTED


def read_overrides(words: Sequence[str]) -> list[tuple[str, str]]:
    """Read ``--section.key VALUE`` and ``--section.key=VALUE`` into pairs of key and value."""
    overrides = []
    remaining = list(words)
    while remaining:
        word = remaining.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"'{word}' is not understood: expected --section.key VALUE")
        key, equals, value = word[2:].partition("=")
        if not equals:
            if not remaining:
                raise UsageError(f"--{key} needs a value")
            value = remaining.pop(0)
        overrides.append((key, value))
    return overrides
