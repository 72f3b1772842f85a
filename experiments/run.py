"""Run an experiment: ``python experiments/run.py NAME|FILE [--section.key VALUE ...]``.

Or by several processes: ``torchrun --nproc_per_node=N experiments/run.py ...``.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if __name__ == "__main__":
    # Started as a script, Python puts this folder first; the project's own packages must win
    # (another package called `datasets` is common), and a user's modules must be found.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.errors import UsageError
from experiments.command_line import CommandParser, run_command
from experiments.config import config_names, find_config, section_names
from experiments.launch import current_launch, quiet_others

if TYPE_CHECKING:
    from experiments.config import Config
    from experiments.launch import LaunchContext


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="run.py",
        description="Train, validate, test and export one experiment.",
        epilog="Any key of the configuration can be set as --section.key VALUE, the value being "
        "read as YAML: --optimizer.lr 3e-4 --data.labels '{case: 1, control: 0}'. "
        "--print-config shows all keys.",
    )
    parser.add_argument(
        "experiment", metavar="NAME|FILE", help=f"one of {', '.join(config_names())}; or a file"
    )
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="RUN",
        help="continue a run by name or folder; alone or 'auto': the newest unfinished one",
    )
    parser.add_accept("train although the audit refuses the cohort for this")
    parser.add_argument("--print-config", action="store_true", help="show what would be run")
    parser.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    return parser


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    return make_parser().split_overrides(arguments, section_names)


def configure(
    options: argparse.Namespace, overrides: list[tuple[str, str]], job: LaunchContext | None
) -> tuple[Config, Path | None]:
    """The configuration to run and, where a run is continued, its folder."""
    # Not before: --help does without.
    from experiments.config import load_config, read_yaml, unused_settings
    from experiments.launch import begun_run
    from experiments.run_files import RunFile, find_run

    config = load_config(options.experiment, overrides).accepting(options.accept)
    where = config.runs_dir, config.exp_name
    # What torchrun has started again goes on with what it had begun, whatever it was told first.
    begun = None if job is None else begun_run(job, *where)
    if begun is None and options.resume is not None:
        begun = find_run(options.resume, *where)
        if "runs_dir" in dict(overrides) and begun.resolve().parent != config.runs_dir.resolve():
            raise UsageError(f"--runs_dir: the run to continue is {begun}; leave it out")
    if begun is None:
        return config, None
    # The run's own configuration is what is continued; only the command line changes it.
    source = str(begun / RunFile.CONFIG)
    own = load_config(source, overrides).accepting(options.accept)
    if "exp_name" in dict(overrides) and own.exp_name != load_config(source).exp_name:
        raise UsageError(f"--exp_name: the run in {begun} keeps its name; leave it out")
    file = find_config(options.experiment)
    written = read_yaml(file.read_text("utf-8"), str(file))
    unused = unused_settings(options.experiment, written, config, own)
    if unused and not options.print_config:
        print(unused, flush=True)
    return own, begun


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    job = current_launch()

    def work() -> int:
        with quiet_others(job):
            words = sys.argv[1:] if arguments is None else arguments
            options, overrides = parse_arguments(words)
        config, run_dir = configure(options, overrides, job)
        if options.print_config:
            from experiments.config import write_yaml

            print(write_yaml(config.plain()), end="")
            for key, value in config.derived().items():
                print(f"# {key} follows: {json.dumps(value)}")
            return 0
        # Not before: it takes seconds to import what trains.
        from experiments.runs import dry_run, run_all_stages

        return (dry_run if options.dry_run else run_all_stages)(config, run_dir, job)

    # Before or after the training, which answers signals itself.
    interrupted = "interrupted; --resume continues from the last checkpoint"
    if job is not None:
        from experiments.launch import run_job_command

        return run_job_command(job, work, interrupted)
    return run_command(work, interrupted)


if __name__ == "__main__":
    sys.exit(main())
