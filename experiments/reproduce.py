"""Make a packaged run again, and compare: ``python experiments/reproduce.py ZIP``."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from experiments.command_line import CommandParser, path_argument, run_command

EPILOG = """\
exit codes:
  0  identical; or, where versions or hardware are others, within the tolerance
  1  it differs
  2  it cannot be made again: a damaged package, another cohort
"""


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="reproduce.py",
        description="Make the run of a package again, and compare figures, predictions and "
        "weights.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "package", type=path_argument, metavar="ZIP", help="what a run exports: <exp_name>.zip"
    )
    parser.add_argument(
        "--data.root",
        dest="root",
        type=path_argument,
        metavar="DIR",
        help="the cohort's folder, unless it is simulated",
    )
    parser.add_argument(
        "--runs_dir",
        type=path_argument,
        default=Path("runs"),
        metavar="DIR",
        help="where the new run goes (runs)",
    )
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""

    def work() -> int:
        words = sys.argv[1:] if arguments is None else arguments
        options = make_parser().parse_args(words)
        # Not before: it takes seconds to import what trains.
        from experiments.reproduction import reproduce

        return reproduce(options.package, options.root, options.runs_dir)

    return run_command(work, "interrupted; nothing was compared")


if __name__ == "__main__":
    sys.exit(main())
