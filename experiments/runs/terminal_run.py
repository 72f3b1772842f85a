"""Runs of a command line: one with all that is printed, or several in sequence."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from datasets.cohort import about_positive
from datasets.errors import UsageError
from engine.reporting import figure_text
from experiments.analysis import (
    about_members,
    about_refitted,
    about_too_few,
    about_trees,
    about_unexplained,
    audit_summary,
    audit_table,
    too_few_of,
)
from experiments.baselines import leaderboard_lines
from experiments.builders import about_budget
from experiments.launch import joined, tell_group
from experiments.report.text import decision_lines
from experiments.run_files import RunFile, RunLock, is_finished, require_place, to_resume
from experiments.runs.experiment import Experiment
from experiments.runs.refit import about_refit
from experiments.runs.run_setup import (
    changes_of_finished,
    changes_since,
    chosen_of,
    holds_a_beginning,
)

if TYPE_CHECKING:
    from experiments.config import Config
    from experiments.launch import LaunchContext

# Of the table of results, in characters.
NARROWEST_COLUMN = 12


def dry_run(config: Config, run_dir: Path | None, job: LaunchContext | None = None) -> int:
    """Set everything up as for a run, and leave no files."""
    if run_dir is None:
        require_place(config.runs_dir)
    with joined(job, config.trainer), _trial(config, run_dir) as experiment:
        print_setup(experiment)
    print("dry run: everything fits; nothing was trained")
    return 0


@contextmanager
def _trial(config: Config, run_dir: Path | None = None) -> Iterator[Experiment]:
    """An experiment that is set up and leaves no files."""
    with tempfile.TemporaryDirectory() as scratch:
        trial = Experiment(config.model_copy(update={"runs_dir": Path(scratch)}), run_dir)
        with closing(trial):
            trial.setup()
            yield trial


def run_all_stages(config: Config, run_dir: Path | None, job: LaunchContext | None = None) -> int:
    """All stages with printed results; after training rank 0 continues without the group."""
    if run_dir and is_finished(run_dir) and not changes_of_finished(run_dir, config):
        print(f"the run in {run_dir} is finished: nothing to continue")
        print("to train further, raise its budget: --trainer.max_epochs N")
        return 0
    with closing(Experiment(config, run_dir)) as experiment:
        return _run_stages(experiment, job)


def _run_stages(experiment: Experiment, job: LaunchContext | None) -> int:
    """All stages of one run; returns the exit code."""
    with joined(job, experiment.config.trainer):
        experiment.setup()
        if job is not None and job.is_main_process:
            job.remember_run(experiment.run_dir)
        print(f"run folder  {experiment.run_dir}")
        print_setup(experiment)
        experiment.train()
        stopped = _stopped(experiment, job)
        if stopped is None:
            experiment.hand_over()
    if stopped is not None:
        return stopped
    if job is not None and job.world_size > 1:
        if not job.is_main_process:
            return 0
        experiment.go_on_alone()
    experiment.validate()
    experiment.refit()
    stopped = _stopped(experiment, job)
    if stopped is not None:
        return stopped
    experiment.test()
    print_results(experiment)
    page = experiment.export()
    if experiment.note:
        print(experiment.note)
    print(f"open  {page}")
    return 0


def _stopped(experiment: Experiment, job: LaunchContext | None) -> int | None:
    """The exit code if a signal stopped the training, with a line on how to continue."""
    if experiment.exit_code is not None:
        run_dir = experiment.run_dir
        command = to_resume(run_dir) if job is None else f"--resume {run_dir}"
        print(f"to continue: {command}", flush=True)
    return experiment.exit_code


def print_setup(experiment: Experiment) -> None:
    """Print the data, the audit, the model and the device."""
    config, audit = experiment.config, experiment.audit
    told = [found for found in audit if found.level != "note"]
    of_audit = {found.sentence for found in told}
    lines = [line for line in experiment.data.describe() if line not in of_audit]
    lines.append(experiment.changed or "")
    if config.audit.enabled:
        notes = ", ".join(found.name for found in audit if found.level == "note")
        lines.append(f"audit {audit_summary(audit)}{f' ({notes})' if notes else ''}")
        lines += audit_table(told)
    lines += experiment.handlers.repeated
    lines.append(about_budget(config, len(experiment.data.loaders["train"])))
    if config.trainer.refit:
        lines.append(about_refit(experiment.data))
    lines.append(tell_group(config.trainer) or "")
    parameters = sum(p.numel() for p in experiment.trainer.model.parameters())
    device = experiment.trainer.device
    lines.append(f"model {config.model.title} with {parameters:,} parameters on {device}")
    print("\n".join(filter(None, lines)), flush=True)


def print_results(experiment: Experiment) -> None:
    """Print a table of validation and test metrics, thresholds and calibration."""
    results, cohort = experiment.results, experiment.data.cohort
    lines: list[str] = [about_positive(cohort.task, cohort.class_names)]
    columns: dict[str, Mapping[str, float]] = {"validation": results["val"]}
    if experiment.selected is not None:
        lines.append(about_refitted(experiment.selected.epochs))
        columns |= {"test": experiment.selected.test, "test, refit": results["test"]}
    else:
        columns["test"] = results["test"]
    rows = [("", *columns)]
    for name in results["test"]:
        rows.append((name, *(figure_text(column[name]) for column in columns.values())))
    width = max(len(name) for name, *_ in rows)
    # Two spaces part the columns, however long a number is.
    column = max(NARROWEST_COLUMN, *(len(cell) + 2 for row in rows for cell in row[1:]))
    for name, *cells in rows:
        lines.append(f"{name:<{width}}{''.join(f'{cell:>{column}}' for cell in cells)}")
    too_few = too_few_of(experiment.intervals)
    lines.append(about_too_few(too_few, cohort.task) if too_few else "")
    lines.append(about_members(experiment.member_weights))
    lines += decision_lines(experiment.findings, cohort.task)
    if experiment.leaderboard is not None:
        lines += leaderboard_lines(experiment.leaderboard)
    unexplained = about_unexplained(experiment.findings)
    if unexplained:
        lines.append(f"{unexplained}; the handler attribution explains another: target")
    lines.append(about_trees(experiment.findings))
    print("\n".join(filter(None, lines)))


ABSENT, CUT, FINISHED = "absent", "cut off", "finished"


def state_of(config: Config) -> str:
    """``absent``, ``cut off`` or ``finished``: how far a run has come."""
    folder = config.runs_dir / config.exp_name
    if not folder.exists():
        return ABSENT
    if not (folder / RunFile.CONFIG).is_file():
        begun = holds_a_beginning(folder)
        lock = RunLock(folder)  # refused where another process is just beginning it
        if begun and holds_a_beginning(folder):
            shutil.rmtree(folder)
            lock.release()
            return ABSENT
        lock.release()
        raise UsageError(f"{folder} exists, but holds no run that can be continued; move it away")
    _, changes = changes_since(folder, config, {})
    if changes:
        saved, wanted = chosen_of(folder), config.plain()
        chosen = [key for key in wanted if saved[key] != wanted[key]]
        differing = chosen or [change.key for change in changes]
        raise UsageError(
            f"{folder} is a run with another configuration ({', '.join(differing)}); move it away "
            "or set --runs_dir"
        )
    return FINISHED if is_finished(folder) else CUT


def states_of(configs: Sequence[Config]) -> list[str]:
    """How far each run has come; the first absent one of each model is set up as a trial."""
    states = [state_of(config) for config in configs]
    tried = set()
    for config, state in zip(configs, states, strict=True):
        if state == ABSENT and config.model.name not in tried:
            tried.add(config.model.name)
            with _trial(config):
                pass
    return states


def run_each(configs: Sequence[Config], states: Sequence[str]) -> int | None:
    """Run in sequence what is not finished; the exit code if a signal stopped a run."""
    for number, (config, state) in enumerate(zip(configs, states, strict=True), start=1):
        title = f"[{number}/{len(configs)}] {config.exp_name}"
        if state == FINISHED:
            print(f"{title}: finished before")
            continue
        print(f"{title}{': continued' if state == CUT else ''}", flush=True)
        code = run_one(config, state)
        if code is not None:
            return code
    return None


def run_one(config: Config, state: str) -> int | None:
    """Start or continue a run; returns the exit code if a signal stopped it."""
    folder = config.runs_dir / config.exp_name
    experiment = Experiment(config, folder if state == CUT else None)
    experiment.run()
    return experiment.exit_code
