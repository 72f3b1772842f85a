"""What all command lines share: names, exit codes, overrides, one line where a user is mistaken."""

import argparse
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Container, Sequence
from difflib import get_close_matches
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

from datasets.errors import UsageError, nearest
from datasets.paths import as_path
from engine.reporting import safe_streams

USAGE_ERROR = 2
# As argparse words it.
INVALID_CHOICE = re.compile(r"invalid choice: '(?P<word>.*)' \(choose from (?P<choices>.*)\)$")
INTERRUPTED = 130  # what a shell says of a process that SIGINT ended

# What follows ``scanfire``: its script, and what it does.
COMMANDS = {
    "run": ("run.py", "train, validate, test and export one experiment"),
    "cv": ("cross_validate.py", "networks and baselines on the same folds"),
    "compare": ("compare.py", "finished runs side by side, or families of models"),
    "predict": ("predict.py", "new samples, by what a run has trained"),
    "export": ("export.py", "a trained model for other programs"),
    "sweep": ("sweep.py", "search for settings"),
    "import": ("import_cohort.py", "from instrument files to a cohort's folder"),
    "audit": ("audit_cohort.py", "check a cohort for leakage and confounding"),
    "reproduce": ("reproduce.py", "run a package again and compare the figures"),
    "new": ("new_config.py", "write a first configuration for a cohort of one's own"),
}
SCRIPTS = {script: name for name, (script, _) in COMMANDS.items()}


def as_typed(script: str) -> str:
    """How to start a script such as ``run.py`` from here, in the form that was used now."""
    if script not in SCRIPTS:
        return script
    started = Path(sys.argv[0])
    python = _shortest(sys.executable, "python")
    if started.is_file() and started.resolve().parent == Path(__file__).resolve().parent:
        return shlex.join([python, str(started.with_name(script))])
    if started.name == "__main__.py" and started.parent.name == "scanfire":
        return shlex.join([python, "-m", "scanfire", SCRIPTS[script]])
    scanfire = _shortest(started, "scanfire") if started.stem == "scanfire" else "scanfire"
    return shlex.join([scanfire, SCRIPTS[script]])


def _shortest(program: str | Path, name: str) -> str:
    """The name where the shell finds the program by it, otherwise the path, from here if inside."""
    found, here = shutil.which(name), Path.cwd()
    if found and Path(found).absolute() == Path(program).absolute():
        return name
    path = Path(program)
    return os.fspath(path.relative_to(here) if path.is_relative_to(here) else path)


class CommandParser(argparse.ArgumentParser):
    """A parser that complains in one line, and knows the project's version."""

    def __init__(self, *, prog: str, **settings: Any) -> None:
        super().__init__(prog=as_typed(prog), allow_abbrev=False, **settings)
        self.add_argument("--version", action="version", version=f"scanfire {version()}")

    def add_accept(self, what: str) -> None:
        """Add ``--accept FINDING``."""
        about = f"{what}; may be repeated"
        self.add_argument("--accept", action="append", default=[], metavar="FINDING", help=about)

    def error(self, message: str) -> NoReturn:
        """Complain; of an option or a choice that does not exist, name the nearest."""
        _, unrecognized, words = message.partition("unrecognized arguments: ")
        hint = self.nearest_option(words.split()[0]) if unrecognized else ""
        wrong = INVALID_CHOICE.search(message)
        if wrong:
            choices = re.findall(r"[\w.-]+", wrong["choices"])
            message = f"{message[: wrong.start()]}'{wrong['word']}' is unknown"
            hint = nearest(wrong["word"], choices)
        raise UsageError(f"{message}{hint} (--help shows all options)")

    def nearest_option(self, word: str) -> str:
        """A hint at the option that was probably meant; empty for none."""
        options = [name for action in self._actions for name in action.option_strings]
        close = get_close_matches(word.partition("=")[0], options, n=1, cutoff=0.75)
        return f"; did you mean {close[0]}?" if close else ""

    def split_words(
        self, arguments: Sequence[str], sections: Callable[[], Container[str]]
    ) -> tuple[argparse.Namespace, list[str]]:
        """The tool's own options, and the other words, which may be overrides."""
        known, rest = self.parse_known_args(arguments)
        for word in rest:
            hint = self.nearest_option(word) if word.startswith("--") else ""
            if hint and word[2:].partition("=")[0].partition(".")[0] not in sections():
                raise UsageError(f"{word} is not known{hint} (--help shows all options)")
        return known, rest

    def split_overrides(
        self, arguments: Sequence[str], sections: Callable[[], Container[str]]
    ) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
        """The tool's own options, and configuration overrides."""
        known, rest = self.split_words(arguments, sections)
        return known, read_overrides(rest)


def version() -> str:
    """The installed version."""
    try:
        return metadata.version("scanfire")
    except metadata.PackageNotFoundError:
        return "(not installed)"


def whole_number(smallest: int, text: str) -> int:
    """A number of the command line, for ``type=``."""
    if not text.isdecimal() or int(text) < smallest:
        raise argparse.ArgumentTypeError(f"expected a whole number from {smallest} on")
    return int(text)


def path_argument(text: str) -> Path:
    """A path of the command line, for ``type=``."""
    try:
        return as_path(text)
    except UsageError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def complain(line: str) -> None:
    """Tell a person why nothing came of it."""
    print(line, file=sys.stderr, flush=True)


def run_command(
    work: Callable[[], int], interrupted: str = "interrupted", say: Callable[[str], None] = complain
) -> int:
    """Do a command's work; what a user can mend is one line, a bug keeps its traceback.

    A closed pipe, a lost terminal or a character that it lacks does not end the work.
    ``interrupted`` is printed where Ctrl-C ends it.
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
