"""Models on the same folds: ``python experiments/cross_validate.py NAME|FILE [--models all]``."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from experiments.command_line import CommandParser, run_command, whole_number
from experiments.config import config_names, section_names

EPILOG = """\
any key of the configuration can be set as for a run:
  %(prog)s tft_baseline --folds 5
  %(prog)s hcc --data.root DIR --data.split.kind leave_one_group_out --models all --jobs 2
  %(prog)s my_cohort.yaml --data.split '{kind: leave_one_batch_out, batch: site}'
  %(prog)s tft_baseline --folds 5 --grid optimizer.lr=1e-4,1e-3 --seeds 3
  %(prog)s tft_baseline --folds 5 --permutations 99 --of baselines tft --jobs 4

The same command line continues what was cut off, and passes over what is finished.
"""


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="cross_validate.py",
        usage="%(prog)s NAME|FILE [--folds K] [--models FAMILY ...] [--seeds K] "
        "[--jobs J]\n       [--grid KEY=VALUE,VALUE] [--repeats R] [--permutations N] "
        "[--learning-curve]\n       [--of FAMILY ...] [--accept FINDING] [--section.key VALUE ...]",
        description="Train networks and baselines on the same folds, and compare them.",
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
    parser.add_argument(
        "--models",
        nargs="+",
        default=[],
        metavar="FAMILY",
        help="networks, or all; by default the configuration's own",
    )
    for name, default, about in (
        ("seeds", 1, "of each network, whose predictions are averaged"),
        ("repeats", 1, "how often a k-fold is drawn"),
        ("jobs", 1, "processes side by side; with GPUs as many as there are are useful"),
        ("permutations", 0, "of the targets, to test the best baseline, or what --of names"),
    ):
        parser.add_argument(
            f"--{name}",
            type=partial(whole_number, default),
            default=default,
            metavar="N",
            help=about,
        )
    parser.add_argument(
        "--grid",
        action="append",
        default=[],
        metavar="KEY=VALUE,VALUE",
        help="settings of which each is a candidate; may be repeated",
    )
    parser.add_argument(
        "--learning-curve",
        action="store_true",
        help="fit baselines, or what --of names, to shares of the training sets, too",
    )
    parser.add_argument(
        "--of",
        nargs="+",
        default=["baselines"],
        metavar="FAMILY",
        help="what these two are of: networks, each trained anew for them, or baselines",
    )
    parser.add_accept("train although the audit refuses the cohort for this")
    return parser


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    return make_parser().split_overrides(arguments, section_names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""

    def work() -> int:
        options, overrides = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        kfold = {"kind": "kfold", "folds": str(options.folds)} if options.folds else {}
        of_split = [(f"data.split.{name}", value) for name, value in kfold.items()]
        from experiments.config import load_config

        load_config(options.experiment, [*overrides, *of_split])  # mistakes first: imports are slow

        from experiments.folds import cross_validate

        checks = ("permutations", "learning_curve", "of")
        names = ("repeats", "models", "seeds", "grid", "jobs", *checks)
        return cross_validate(
            options.experiment,
            overrides,
            options.folds,
            options.accept,
            **{name: getattr(options, name) for name in names},
        )

    return run_command(work, "interrupted; the same command line continues")


if __name__ == "__main__":
    sys.exit(main())
