"""Console streams that never raise."""

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class SafeStream:
    """A text stream (None drops everything) whose writes never raise.

    Characters outside the encoding are replaced. If a write fails (the reader of a pipe is gone, a
    terminal is closed, a disk is full), later output goes to the null device.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        if hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="replace")

    def write(self, text: str) -> int:
        """Write; returns the number of characters given."""
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
        """Flush the stream."""
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
        """All other attributes are the stream's."""
        return getattr(self._stream, name)

    def _drop(self) -> None:
        """Redirect to the null device: the buffer would fail again at exit, and change its code."""
        stream, self._stream = self._stream, None
        with contextlib.suppress(OSError, ValueError, AttributeError):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)


def safe_stdout() -> SafeStream:
    """The present ``sys.stdout`` as a safe stream."""
    return sys.stdout if isinstance(sys.stdout, SafeStream) else SafeStream(sys.stdout)


@contextlib.contextmanager
def safe_streams() -> Iterator[None]:
    """A context in which ``sys.stdout`` and ``sys.stderr`` never raise.

    A standard descriptor that was not open is opened on the null device: the next file would get
    its number, and with it all that is printed.
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
