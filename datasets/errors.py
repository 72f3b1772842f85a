"""Errors of a user's input: one line with the expected and the nearest choice."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches

# Longer lists are cut.
MAX_CHOICES_SHOWN = 12


class UsageError(ValueError):
    """Invalid input of a user; shown as one line, without a traceback."""


class CohortError(UsageError):
    """A cohort, or a choice about it, that cannot be used."""


def nearest(name: object, choices: Iterable[object]) -> str:
    """The end of an error line: "; did you mean 'age'? (choices: age, sex)"."""
    names = [str(choice) for choice in choices]
    folded = {choice.casefold(): choice for choice in reversed(names)}
    close = get_close_matches(str(name).casefold(), folded, n=1)
    hint = f"; did you mean '{folded[close[0]]}'?" if close else ""
    shown = ", ".join(names[:MAX_CHOICES_SHOWN]) or "none"
    more = f", and {len(names) - MAX_CHOICES_SHOWN} more" if len(names) > MAX_CHOICES_SHOWN else ""
    return f"{hint} (choices: {shown}{more})"


def one_line(error: BaseException) -> str:
    """An error's message on one line."""
    return " ".join(str(error).split())


@contextmanager
def file_errors(problem: str, kind: type[UsageError] = UsageError, end: str = "") -> Iterator[None]:
    """Raise an error of the system as a user's: the problem, the system's reason, and ``end``."""
    try:
        yield
    except OSError as error:
        raise kind(f"{problem}: {error.strerror or one_line(error)}{end}") from error


@contextmanager
def refused(problem: str, *kinds: type[Exception]) -> Iterator[None]:
    """Raise errors of a library as a CohortError that names the problem; CohortErrors pass."""
    try:
        yield
    except CohortError:
        raise
    except kinds as error:
        raise CohortError(f"{problem}: {one_line(error) or type(error).__name__}") from error
