"""Search for settings: ``python experiments/sweep.py NAME|FILE --space FILE --trials N``."""

import argparse
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from experiments.command_line import CommandParser, path_argument, run_command, whole_number
from experiments.config import config_names, section_names

EPILOG = """\
the file of the space has a line for each setting that is varied:
  optimizer.lr: {float: [1e-5, 1e-2], log: true}
  model.params.dropout: {float: [0.1, 0.6], step: 0.1}
  trainer.batch_size: [16, 32, 64]
  lr_scheduler.name: [cosine, step]
  lr_scheduler.params.gamma: {float: [0.1, 0.9], when: {lr_scheduler.name: step}}

any other key of the configuration can be set as for a run:
  %(prog)s tft_baseline --space space.yaml --trials 50 --jobs 2
  %(prog)s hcc --data.root DIR --space space.yaml --trials 50 --folds 5

The same command line continues what was cut off, and does not repeat what is finished.
"""


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="sweep.py",
        usage="%(prog)s NAME|FILE --space FILE --trials N [--jobs J] [--folds K]\n"
        "       [--storage URL] [--accept FINDING] [--section.key VALUE ...]",
        description="Search for the settings of the best figure of the validation set. The test "
        "set is not touched.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "experiment", metavar="NAME|FILE", help=f"one of {', '.join(config_names())}; or a file"
    )
    parser.add_argument(
        "--space", type=path_argument, metavar="FILE", required=True, help="what is varied, in YAML"
    )
    for name, least, default, about in (
        ("trials", 1, None, "how many are to be finished, by all workers and all calls"),
        ("jobs", 1, 1, "processes side by side; with GPUs as many as there are are useful"),
        ("folds", 2, None, "take the mean over so many folds of the training and validation sets"),
    ):
        parser.add_argument(
            f"--{name}",
            type=partial(whole_number, least),
            default=default,
            required=name == "trials",
            metavar="N",
            help=about,
        )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="database of the study, for workers on several machines (a SQLite file in the "
        "sweep's folder)",
    )
    parser.add_accept("search although the audit refuses the cohort for this")
    return parser


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    return make_parser().split_overrides(arguments, section_names)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""

    def work() -> int:
        options, overrides = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        from experiments.config import load_config

        load_config(options.experiment, overrides)  # mistakes first: imports are slow

        from experiments.sweeps import run_sweep

        return run_sweep(
            options.experiment,
            overrides,
            options.space,
            options.trials,
            jobs=options.jobs,
            folds=options.folds,
            storage=options.storage,
            accept=options.accept,
        )

    return run_command(work, "interrupted; the same command line continues")


if __name__ == "__main__":
    sys.exit(main())
