"""Printing to a person who may be gone: a stream that never fails."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class SafeStream:
    """A text stream whose writes never raise.

    Characters that the stream's encoding lacks are replaced. Where a write fails (the reader of a
    pipe is gone, a terminal is closed, a disk is full), the stream's descriptor is pointed at the
    null device and everything after it is dropped.

    Args:
        stream: ``sys.stdout``, say; None (a process started without one) drops everything.

    Example:
        >>> closed = open(os.devnull, "w")
        >>> closed.close()
        >>> print("nobody reads this", file=SafeStream(closed))
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write; the number of characters that were given."""
        if self._stream is not None:
            try:
                self._stream.write(text)
            except UnicodeError:
                encoding = getattr(self._stream, "encoding", None) or "ascii"
                self.write(text.encode(encoding, "replace").decode(encoding))
            except (OSError, ValueError):  # ValueError: the stream was closed
                self._drop()
        return len(text)

    def flush(self) -> None:
        """Pass on what was written."""
        if self._stream is not None:
            try:
                self._stream.flush()
            except (OSError, ValueError):
                self._drop()

    def isatty(self) -> bool:
        """Whether the stream is a terminal."""
        try:
            return self._stream is not None and bool(self._stream.isatty())
        except (OSError, ValueError):
            return False

    def __getattr__(self, name: str) -> Any:
        """Everything else is the stream's own."""
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Write nowhere from now on.

        What Python still holds would fail again when the process ends, and change its exit code.
        """
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def safe_stdout() -> SafeStream:
    """``sys.stdout`` as it is now, made safe."""
    return sys.stdout if isinstance(sys.stdout, SafeStream) else SafeStream(sys.stdout)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """A context in which ``sys.stdout`` and ``sys.stderr`` never fail.

    A standard descriptor that the process was started without is opened on the null device: the
    next file would get its number, and with it all that is printed.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            # Opening takes the lowest free number.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    former = sys.stdout, sys.stderr
    made = [each if isinstance(each, SafeStream) else SafeStream(each) for each in former]
    sys.stdout, sys.stderr = made  # type: ignore[assignment]
    try:
        yield
    finally:
        for each in made:
            each.flush()  # at the end of the process a failure would change its exit code
        sys.stdout, sys.stderr = former
