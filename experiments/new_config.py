"""A first configuration for a cohort of one's own: ``python experiments/new_config.py DIR``."""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.errors import UsageError, file_errors
from experiments.command_line import CommandParser, as_typed, path_argument, run_command
from experiments.config import SUFFIXES


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="new_config.py",
        description="Look at a cohort and write a small configuration for it, in which all that "
        "was guessed is marked.",
    )
    parser.add_argument(
        "cohort",
        type=path_argument,
        metavar="DIR|TABLE",
        help="a cohort's folder, or a table of covariates (CSV, XLSX, Parquet)",
    )
    parser.add_argument("--label", metavar="COLUMN", help="what is to be learned")
    parser.add_argument("--group", metavar="COLUMN", help="what a split keeps together (patient)")
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="FILE",
        help="the configuration, never overwritten; by default called as the cohort, and here",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: write_first(make_parser().parse_args(words)))


def write_first(options: argparse.Namespace) -> int:
    """Write a configuration, and print what was found and the next command."""
    out = options.out or Path(f"{options.cohort.resolve().with_suffix('').name}.yaml")
    if out.suffix not in SUFFIXES[:2]:
        raise UsageError(
            f"--out {out}: a name that ends in {' or '.join(SUFFIXES[:2])} was expected"
        )
    if out.exists():
        raise UsageError(f"{out} exists and is left as it is; give another name: --out FILE")
    # Not before: it takes seconds to import what reads cohorts.
    from experiments.first_config import cohort_of, look_at

    root = cohort_of(options.cohort)
    try:
        first = look_at(root, options.label, options.group)
    except UsageError:
        if options.cohort.is_file() and root != options.cohort.parent:
            shutil.rmtree(root)  # it was made for this
        raise
    with file_errors(f"{out} cannot be written"):
        out.write_text(first.text(), "utf-8")
    print(*first.told(), f"wrote {out}", sep="\n")
    print(f"next  {as_typed('run.py')} {shlex.quote(str(out))}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
