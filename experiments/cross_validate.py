"""Run all folds: ``python experiments/cross_validate.py NAME|FILE [--folds K]``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from experiments.command_line import CommandParser, read_overrides, run_command
from experiments.config import Config, config_names, load_config

EPILOG = """\
any key of the configuration can be set as for run.py:
  cross_validate.py tft_baseline --folds 5
  cross_validate.py hcc --data.root DIR --data.split.kind leave_one_group_out
  cross_validate.py my_cohort.yaml --data.split '{kind: leave_one_batch_out, batch: site}'

The same command line continues what was cut off, and passes over what is finished.
"""


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    parser = CommandParser(
        prog="cross_validate.py",
        usage="cross_validate.py NAME|FILE [--folds K] [--accept FINDING] "
        "[--section.key VALUE ...]",
        description="Train and test once for each fold, so that every sample is tested once.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiment", metavar="NAME|FILE", help=f"one of {', '.join(config_names())}; or a file"
    )
    parser.add_argument(
        "--folds",
        type=int,
        metavar="K",
        help="a stratified k-fold of so many, whatever split the configuration has",
    )
    parser.add_accept("train although the audit refuses the cohort for this")
    known, rest = parser.split_words(arguments, Config.model_fields)
    return known, read_overrides(rest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""

    def work() -> int:
        options, overrides = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        kfold = {"kind": "kfold", "folds": str(options.folds)} if options.folds else {}
        of_split = [(f"data.split.{name}", value) for name, value in kfold.items()]
        load_config(options.experiment, [*overrides, *of_split])  # mistakes first: imports are slow

        from experiments.folds import cross_validate

        return cross_validate(options.experiment, overrides, options.folds, options.accept)

    return run_command(work, "interrupted; the same command line continues")


if __name__ == "__main__":
    sys.exit(main())
