"""All commands by one name: ``scanfire run|cv|compare|predict|...``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from importlib import import_module
from typing import Any

from datasets.errors import UsageError, nearest
from experiments.command_line import COMMANDS, CommandParser, run_command

# Of an option's value, or of an argument, that is a path.
PATHS = {"DIR", "FILE", "PATH", "RUN", "SOURCE", "OUT", "COHORT", "ZIP"}
# Functions that name configurations and files; other shells complete files alone.
BASH = '_scanfire_configurations() { compgen -W "%s" -- "$1"; compgen -f -- "$1"; }'
ZSH = "_scanfire_configurations() { compadd %s; _files }"


def make_parser() -> argparse.ArgumentParser:
    """The options before a command."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {about}" for name, (_, about) in COMMANDS.items()]
    parser = CommandParser(
        prog="scanfire",
        usage="%(prog)s COMMAND ...",
        description="\n".join(["commands:", *lines]),
        epilog="%(prog)s COMMAND --help tells of one. Settings are given as --section.key VALUE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "--completion", metavar="SHELL", help="print what makes bash, zsh or another complete words"
    )
    return parser


def main(arguments: Sequence[str]) -> int:
    """Run a command, or tell which there are; returns the exit code."""
    if arguments and arguments[0] in COMMANDS:
        code: int = _module(arguments[0]).main(arguments[1:])
        return code
    return run_command(lambda: _without_command(arguments))


def _without_command(arguments: Sequence[str]) -> int:
    if arguments and not arguments[0].startswith("-"):
        raise UsageError(f"no command is called '{arguments[0]}'{nearest(arguments[0], COMMANDS)}")
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.completion:
        print(completion(options.completion))
    else:
        parser.print_help()
    return 0


def completion(shell: str) -> str:
    """A script by which a shell completes commands, options, keys and configurations' names."""
    try:
        import shtab
    except ImportError:
        raise UsageError("--completion takes shtab: pip install 'scanfire[completion]'") from None
    if shell not in shtab.SUPPORTED_SHELLS:
        raise UsageError(
            f"--completion: '{shell}' is unknown{nearest(shell, shtab.SUPPORTED_SHELLS)}"
        )
    from experiments.config import Config, all_keys, config_names

    names = " ".join(config_names())
    functions = {"bash": BASH % names, "zsh": ZSH % names}
    named = dict.fromkeys(functions, "_scanfire_configurations") | {"preamble": functions}
    parser = make_parser()
    # argparse asks for each parser by the name it is to have, whose last word is the command.
    made: Any = lambda prog, **_: _module(prog.split()[-1]).make_parser()  # noqa: E731
    parsers = parser.add_subparsers(dest="command", parser_class=made)
    for name, (_, about) in COMMANDS.items():
        own = parsers.add_parser(name, help=about)
        for action in own._actions:
            words = set(re.findall(r"\w+", str(action.metavar)))
            if "NAME" in words:
                action.complete = named if shell in functions else shtab.FILE
                keys = {f"--{key}" for key in all_keys(Config)} - {*own._option_string_actions}
                for key in sorted(keys):
                    own.add_argument(key, metavar="VALUE", help="of the configuration")
            elif words & PATHS:
                action.complete = shtab.FILE
    script: str = shtab.complete(parser, shell=shell)
    return script


def _module(command: str) -> Any:
    """The module of a command's script."""
    script = COMMANDS[command][0].removesuffix(".py")
    return import_module(f"{__package__}.{script}")
