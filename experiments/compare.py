"""Compare models: finished runs as they stand, or model families that are run first.

``python experiments/compare.py RUN RUN [RUN ...]`` holds finished runs against the first of them,
on the test samples that all of them share, and writes pages.

``python experiments/compare.py NAME|FILE [--seeds 0 1 2]`` runs every family of models on the
splits of a configuration, and writes a table.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.errors import UsageError, nearest
from datasets.paths import as_path
from experiments.command_line import CommandParser, path_argument, read_overrides, run_command
from experiments.config import SUFFIXES, config_names, section_names

RUNS_DIR, COMPARISON = Path("runs"), "comparison"
EPILOG = """\
finished runs, the first of which the others are held against:
  %(prog)s tft_baseline spectra_only tabular_only
  %(prog)s old/tft_baseline runs/tft_baseline-2 --out tft_then_and_now

model families, any key of whose configuration can be set as for a run:
  %(prog)s tft_baseline --seeds 0 1 2 --vary-cohort
  %(prog)s my_cohort.yaml --models tft late_fusion --trainer.max_epochs 20
"""


def make_parser() -> CommandParser:
    """The tool's own options."""
    names = ", ".join(config_names())
    parser = CommandParser(
        prog="compare.py",
        usage="%(prog)s RUN RUN [RUN ...] [--out DIR] [--runs_dir DIR]\n"
        "       %(prog)s NAME|FILE [--seeds SEED ...] [--models FAMILY ...] [--families FILE]\n"
        "                  [--vary-cohort] [--out FILE] [--section.key VALUE ...]",
        description="Compare finished runs, or run model families on the same splits and compare "
        "them.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "what",
        nargs="+",
        metavar="RUN RUN | NAME|FILE",
        help="folders of runs, or their names within --runs_dir; or one configuration: one of "
        f"{names}, or a file",
    )
    parser.add_argument(
        "--runs_dir", type=path_argument, metavar="DIR", help=f"where the runs live ({RUNS_DIR})"
    )
    parser.add_argument(
        "--out",
        type=path_argument,
        metavar="PATH",
        help=f"of runs a new folder (<runs_dir>/{COMPARISON}), of families a file "
        "(<runs_dir>/<name>-families.md)",
    )
    of_families = parser.add_argument_group("model families")
    of_families.add_argument("--seeds", nargs="+", type=int, metavar="SEED", help="0 1 2")
    of_families.add_argument(
        "--models", nargs="+", metavar="FAMILY", help="all of the file if not given"
    )
    of_families.add_argument("--families", type=path_argument, metavar="FILE", help="families.yaml")
    of_families.add_argument(
        "--vary-cohort", action="store_true", help="another simulated cohort for each seed"
    )
    return parser


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Split the command line into the tool's own options and what else there is."""
    return make_parser().split_words(arguments, section_names)


def is_configuration(name: str) -> bool:
    """Whether it is called like one; a file may still be missing."""
    return Path(name).suffix in SUFFIXES or name in config_names()


def families(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Run families of one configuration; returns the exit code."""
    overrides = read_overrides(rest)
    if options.runs_dir is not None:
        overrides.append(("runs_dir", str(options.runs_dir)))
    from experiments.config import load_config

    load_config(options.what[0], overrides)  # a mistake is told before the seconds of imports

    from experiments.comparison import compare_families

    names = ("models", "seeds", "families", "vary_cohort", "out")
    given = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return compare_families(options.what[0], overrides, **given)


def finished_runs(options: argparse.Namespace, rest: Sequence[str]) -> int:
    """Compare finished runs; returns the exit code."""
    runs_dir = options.runs_dir or RUNS_DIR
    check_names(options.what, runs_dir)
    given = ("--seeds", "--models", "--families", "--vary-cohort")
    misplaced = [n for n in given if getattr(options, n[2:].replace("-", "_"))] + list(rest)
    if misplaced:
        raise UsageError(
            f"'{misplaced[0]}' goes with a configuration; finished runs are compared as they stand"
        )
    from experiments.comparison import compare_runs, comparison_text, write_run_comparison
    from experiments.run_files import find_runs, read_runs

    comparison = compare_runs(read_runs(find_runs(options.what, runs_dir)))
    folder = new_folder(options.out, runs_dir)
    (_, *pages), note = write_run_comparison(comparison, folder)
    print(comparison_text(comparison), *(f"open  {page}" for page in pages), sep="\n")
    if note is not None:
        print(note)
    return 0


def check_names(what: Sequence[str], runs_dir: Path) -> None:
    """Refuse a single name that is no configuration, and one among several that is no run."""
    from experiments.run_files import is_run, run_names

    runs = run_names(runs_dir)
    strange = [name for name in what if not is_run(as_path(name)) and not is_run(runs_dir / name)]
    if len(what) < 2:
        if not strange:
            raise UsageError(f"{what[0]} is one run: name two or more, before any option")
        raise UsageError(
            f"'{what[0]}' is neither a configuration nor a run in {runs_dir}"
            f"{nearest(what[0], [*config_names(), *runs])}"
        )
    for name in filter(is_configuration, strange):
        raise UsageError(
            f"'{name}' is a configuration, which stands alone, and no run in {runs_dir}"
            f"{nearest(name, runs)}"
        )


def new_folder(out: Path | None, runs_dir: Path) -> Path:
    """Make the folder of a comparison; an existing one is left alone and a number is added."""
    from experiments.run_files import new_run_dir

    wanted = out or runs_dir / COMPARISON
    try:
        made = new_run_dir(wanted.parent, wanted.name)
    except UsageError as error:
        raise UsageError(f"--out: {str(error).removeprefix('runs_dir: ')}") from error
    if made != wanted:
        print(f"{wanted} exists and is left as it is: writing to {made}\n")
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""

    def work() -> int:
        options, rest = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        alone = len(options.what) == 1 and is_configuration(options.what[0])
        return (families if alone else finished_runs)(options, rest)

    return run_command(work, "interrupted; the same command line continues")


if __name__ == "__main__":
    sys.exit(main())
