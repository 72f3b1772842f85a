"""Run an experiment: ``python experiments/run.py NAME|FILE [--section.key VALUE ...]``.

Or by several processes: ``torchrun --nproc_per_node=N experiments/run.py ...``.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    # Started as a script, Python puts this folder first; the project's own packages must win
    # (another package called `datasets` is common), and a user's modules must be found.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.cohort import about_positive
from datasets.errors import UsageError
from engine.reporting import figure_text
from experiments.analysis import (
    about_too_few,
    about_unexplained,
    audit_summary,
    audit_table,
    too_few_of,
)
from experiments.command_line import CommandParser, read_overrides, run_command
from experiments.config import CONFIGS, Config, load_config, unused_settings, write_yaml
from experiments.launch import (
    LaunchContext,
    current_launch,
    joined,
    quiet_others,
    run_job_command,
    tell_group,
)
from experiments.report.text import decision_lines
from experiments.run_files import CONFIG_NAME, find_run, is_finished
from experiments.runs import Experiment, begun_run, changes_of_finished

# Of the table of results, in characters.
NARROWEST_COLUMN = 12


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    parser = CommandParser(
        prog="run.py",
        description="Train, validate, test and export one experiment.",
        epilog="Any key of the configuration can be set as --section.key VALUE, the value being "
        "read as YAML: --optimizer.lr 3e-4 --data.labels '{case: 1, control: 0}'. "
        "--print-config shows all keys.",
    )
    parser.add_argument("experiment", metavar="NAME|FILE", help=f"one of {names}; or a file")
    parser.add_argument(
        "--resume",
        nargs="?",
        const="auto",
        metavar="RUN",
        help="continue a run by name or folder; alone or 'auto': the newest unfinished one",
    )
    parser.add_argument(
        "--accept",
        action="append",
        default=[],
        metavar="FINDING",
        help="train although the audit refuses the cohort for this; may be repeated",
    )
    parser.add_argument("--print-config", action="store_true", help="show what would be run")
    parser.add_argument("--dry-run", action="store_true", help="check everything, train nothing")
    known, rest = parser.split_words(arguments, Config.model_fields)
    return known, read_overrides(rest)


def accept_too(config: Config, names: Sequence[str]) -> Config:
    """The same configuration, with findings of the audit accepted beside those that it accepts."""
    accepted = list(dict.fromkeys([*config.audit.accept, *names]))
    return config.model_copy(update={"audit": config.audit.model_copy(update={"accept": accepted})})


def configure(
    options: argparse.Namespace, overrides: list[tuple[str, str]], job: LaunchContext | None
) -> tuple[Config, Path | None]:
    """The configuration to run and, where a run is continued, its folder."""
    config = accept_too(load_config(options.experiment, overrides), options.accept)
    where = config.runs_dir, config.exp_name
    # What torchrun has started again goes on with what it had begun, whatever it was told first.
    begun = begun_run(job, *where) if job is not None else None
    if begun is None and options.resume is not None:
        begun = find_run(options.resume, *where)
    if begun is None:
        return config, None
    # The run's own configuration is what is continued; only the command line changes it.
    source = str(begun / CONFIG_NAME)
    own = accept_too(load_config(source, overrides), options.accept)
    if "exp_name" in dict(overrides) and own.exp_name != load_config(source).exp_name:
        raise UsageError(f"--exp_name: the run in {begun} keeps its name; leave it out")
    unused = unused_settings(options.experiment, config, own)
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
            print(write_yaml(config.plain()), end="")
            for key, value in config.derived().items():
                print(f"# {key} follows: {json.dumps(value)}")
            return 0
        if options.dry_run:
            return dry_run(config, run_dir, job)
        return run(config, run_dir, job)

    # Before or after the training, which answers signals itself.
    interrupted = "interrupted; --resume continues from the last checkpoint"
    if job is not None:
        return run_job_command(job, work, interrupted)
    return run_command(work, interrupted)


def dry_run(config: Config, run_dir: Path | None, job: LaunchContext | None = None) -> int:
    """Set everything up as for a run, and leave nothing behind."""
    with tempfile.TemporaryDirectory() as scratch, joined(job, config.trainer):
        experiment = Experiment(config.model_copy(update={"runs_dir": Path(scratch)}), run_dir)
        try:
            experiment.setup()
            print_setup(experiment)
        finally:
            experiment.close()
    print("dry run: everything fits; nothing was trained")
    return 0


def run(config: Config, run_dir: Path | None, job: LaunchContext | None = None) -> int:
    """All stages, told as they happen; after training the first process goes on alone."""
    if run_dir and is_finished(run_dir) and not changes_of_finished(run_dir, config):
        print(f"the run in {run_dir} is finished: nothing to continue")
        print("to train further, raise its budget: --trainer.max_epochs N")
        return 0
    experiment = Experiment(config, run_dir)
    try:
        return run_stages(experiment, job)
    finally:
        experiment.close()


def run_stages(experiment: Experiment, job: LaunchContext | None = None) -> int:
    """All stages of one run; returns the exit code."""
    with joined(job, experiment.config.trainer):
        experiment.setup()
        if job is not None and job.is_main_process:
            job.remember_run(experiment.run_dir)
        print(f"run folder  {experiment.run_dir}")
        print_setup(experiment)
        experiment.train()
        if experiment.exit_code is not None:
            print(f"to continue: --resume {experiment.run_dir}", flush=True)
        else:
            experiment.hand_over()
    if experiment.exit_code is not None:
        return experiment.exit_code
    if job is not None and job.world_size > 1:
        if not job.is_main_process:
            return 0
        experiment.go_on_alone()
    experiment.validate()
    experiment.test()
    print_results(experiment)
    page = experiment.export()
    if experiment.note:
        print(experiment.note)
    print(f"open  {page}")
    return 0


def print_setup(experiment: Experiment) -> None:
    """What is about to be trained on what, and by whom."""
    for line in experiment.data.describe():
        print(line)
    if experiment.changed:
        print(experiment.changed)
    if experiment.config.audit.enabled:
        notes = ", ".join(found.name for found in experiment.audit if found.level == "note")
        print(f"audit {audit_summary(experiment.audit)}{f' ({notes})' if notes else ''}")
        for line in audit_table([found for found in experiment.audit if found.level != "note"]):
            print(line)
    for line in experiment.handlers.repeated:
        print(line)
    parameters = sum(p.numel() for p in experiment.trainer.model.parameters())
    together = tell_group(experiment.config.trainer)
    if together:
        print(together)
    print(
        f"model {experiment.config.model.name} with {parameters:,} parameters "
        f"on {experiment.trainer.device}",
        flush=True,
    )


def print_results(experiment: Experiment) -> None:
    """The validation and test figures, side by side, and what is decided by them."""
    results, cohort = experiment.results, experiment.data.cohort
    positive = about_positive(cohort.task, cohort.class_names)
    if positive:
        print(positive)
    rows = [("", "validation", "test")]
    for name, value in results["test"].items():
        rows.append((name, figure_text(results["val"][name]), figure_text(value)))
    width = max(len(name) for name, _, _ in rows)
    # Two spaces part the columns, however long a number is.
    column = max(NARROWEST_COLUMN, *(len(cell) + 2 for row in rows for cell in row[1:]))
    for name, val, test in rows:
        print(f"{name:<{width}}{val:>{column}}{test:>{column}}")
    too_few = too_few_of(experiment.intervals)
    if too_few:
        print(about_too_few(too_few, cohort.task))
    for line in decision_lines(experiment.findings, cohort.task):
        print(line)
    unexplained = about_unexplained(experiment.findings)
    if unexplained:
        print(f"{unexplained}; the handler attribution explains another: target")


if __name__ == "__main__":
    sys.exit(main())
