"""Several runs in sequence: finished ones are skipped, a cut one is continued."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from datasets.errors import UsageError
from experiments.config import Config, changes_between, load_config
from experiments.run_files import CONFIG_NAME, RunLock, is_finished
from experiments.runs.experiment import Experiment
from experiments.runs.run_setup import settings_of

ABSENT, CUT, FINISHED = "absent", "cut off", "finished"


def state_of(config: Config) -> str:
    """``absent``, ``cut off`` or ``finished``: how far a run has come."""
    folder = config.runs_dir / config.exp_name
    if not folder.exists():
        return ABSENT
    if not (folder / CONFIG_NAME).is_file():
        RunLock(folder).release()  # it may be another process that is just beginning it
        raise UsageError(f"{folder} exists, but holds no run that can be continued; move it away")
    changes = changes_between(settings_of(folder, {}), config.resolved())
    if changes:
        before, wanted = load_config(str(folder / CONFIG_NAME)).plain(), config.plain()
        chosen = [key for key in wanted if before[key] != wanted[key]]
        differing = chosen or [change.key for change in changes]
        raise UsageError(
            f"{folder} is a run with another configuration ({', '.join(differing)}); move it away "
            "or set --runs_dir"
        )
    return FINISHED if is_finished(folder) else CUT


def run_planned(configs: Sequence[Config], kind_of: Callable[[Config], Any]) -> int | None:
    """Run what is not finished yet.

    The first of each group by ``kind_of`` is set up before any is trained. Returns the exit code if
    a signal stopped a run.
    """
    states = [state_of(config) for config in configs]
    tried = set()
    for config, state in zip(configs, states, strict=True):
        if state == ABSENT and kind_of(config) not in tried:
            tried.add(kind_of(config))
            with tempfile.TemporaryDirectory() as scratch:
                trial = Experiment(config.model_copy(update={"runs_dir": Path(scratch)}))
                trial.setup()
                trial.close()
    for number, (config, state) in enumerate(zip(configs, states, strict=True), start=1):
        title = f"[{number}/{len(configs)}] {config.exp_name}"
        if state == FINISHED:
            print(f"{title}: finished before")
            continue
        print(f"{title}{': continued' if state == CUT else ''}", flush=True)
        folder = config.runs_dir / config.exp_name
        experiment = Experiment(config, folder if state == CUT else None)
        experiment.run()
        if experiment.exit_code is not None:
            return experiment.exit_code
    return None
