"""Paths as a user gives them: one rule for settings, command lines and calls from Python."""

from pathlib import Path

from datasets.errors import UsageError

# Longest name of a file or folder on Linux, macOS and Windows.
LONGEST_NAME = 255


def as_path(given: str | Path) -> Path:
    """A path that a user gave, ``~`` being the home folder; UsageError where it is invalid."""
    text = str(given)
    if not text.strip():
        raise UsageError("a path was expected, not an empty text")
    if "\0" in text:
        raise UsageError("a path cannot hold a null character")
    try:
        path = Path(text).expanduser()
    except RuntimeError as error:
        raise UsageError(f"'{text}': there is no such user") from error
    for name in path.parts:
        length = len(name.encode(errors="surrogateescape"))
        if length > LONGEST_NAME:
            raise UsageError(
                f"the name '{name[:20]}...' has {length} bytes; at most {LONGEST_NAME} fit"
            )
    return path
