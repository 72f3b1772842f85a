"""Kill a run at random moments, resume it each time, and compare it with one left in peace.

``python experiments/benchmarks/resume.py [--kills N] [--out FILE]`` does so for several settings
and prints a table; the exit code is 1 where anything differs. The uninterrupted runs are started
as a person starts them; those that are killed call the command line in a process forked from this
one.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from experiments.benchmarks.equal_runs import compare_runs
from experiments.benchmarks.killed_runs import Victim
from experiments.benchmarks.whereabouts import STAGES
from experiments.config import write_yaml

KILLS = 20
# Of what differs between two runs, how many lines are printed.
SHOWN_DIFFERENCES = 10
SETTING_COLUMNS = ("workers", "accumulation", "precision")
COMPARED_COLUMNS = ("runs", "tensors", "tensors differ", "rows differ", "seconds")
HEADER = (*SETTING_COLUMNS, "kills", *STAGES, *COMPARED_COLUMNS)


@dataclass(frozen=True)
class Setting:
    """What is varied: see the configuration's keys of these names."""

    workers: int
    accumulation: int
    precision: str

    def config(self, folder: Path, epochs: int, cohorts: Path) -> dict[str, Any]:
        """A small run with everything on that has a memory or draws random numbers.

        Args:
            folder: Where its runs go.
            epochs: The budget.
            cohorts: Where the simulated cohort is written, once for all settings.
        """
        return {
            "runs_dir": str(folder),
            "seed": 3,
            "data": {
                "simulated": {"n_samples": 90},
                "cache_dir": str(cohorts),
                "log": ["CRP"],
                # Sides for evaluation large enough to be hit.
                "split": {"fractions": [0.5, 0.25, 0.25]},
                "augmentations": [
                    {"name": "noise", "params": {"std": 0.3}},
                    "axis_shift",
                    "intensity",
                    "scan_dropout",
                ],
                "num_workers": self.workers,
            },
            "model": {
                "name": "tft",
                "params": {"patch_size": 256, "d_model": 16, "num_layers": 1, "dropout": 0.3},
            },
            "trainer": {
                "max_epochs": epochs,
                # 45 samples: an epoch's last batch is not full, its last window neither.
                "batch_size": 4,
                "device": "cpu",
                "precision": self.precision,
                "accumulate_steps": self.accumulation,
                "early_stopping": {"patience": 50},
            },
            "lr_scheduler": {"name": "cosine", "warmup_steps": 5},
            "ema": {"decay": 0.9},
            # One of them draws random numbers; all would take several times as long as the rest.
            "baselines": {"models": ["spectra_extra_trees", "covariates_logistic"]},
            "checkpoint": {"every_steps": 2, "save_top_k": 2},
            "log": {"every_steps": 1},
            "handlers": [
                {
                    "name": "experiments.benchmarks.whereabouts.Whereabouts",
                    "params": {"file": str(folder / "whereabouts")},
                }
            ],
        }


@dataclass
class Outcome:
    """What became of one setting.

    Attributes:
        setting: Which.
        kills: How many hit, by the stage that the run was in.
        runs: How many runs the kills were spread over; each was compared.
        compared: Tensors that were compared.
        differing_tensors: Of these, how many differ.
        differing_rows: Lines of the logs that differ.
        differences: Everything that differs, in a line each.
        seconds: How long it took.
    """

    setting: Setting
    kills: Counter[str] = field(default_factory=Counter)
    runs: int = 0
    compared: int = 0
    differing_tensors: int = 0
    differing_rows: int = 0
    differences: list[str] = field(default_factory=list)
    seconds: float = 0.0


def try_setting(
    setting: Setting,
    kills: int,
    epochs: int,
    work: Path,
    choose: random.Random,
    forked: bool = False,
) -> Outcome:
    """Run once in peace, then as often as it takes to have so many kills, and compare.

    Args:
        setting: Gets a folder of its own.
        kills: How many have to hit.
        epochs: Of each run.
        work: Holds the folders.
        choose: Draws the moments.
        forked: Fork the run that is left in peace, too.
    """
    began = time.monotonic()
    folder = work / f"workers{setting.workers}-{setting.accumulation}-{setting.precision}"
    folder.mkdir()
    config = setting.config(folder, epochs, work / "cohorts")
    (folder / "config.yaml").write_text(write_yaml(config), "utf-8")
    victim, outcome = Victim(folder, choose), Outcome(setting)
    victim.run_straight(forked)
    while outcome.runs == 0 or outcome.kills.total() < kills:
        outcome.runs += 1
        run_dir, hits = victim.run_killed(f"killed{outcome.runs}", kills - outcome.kills.total())
        outcome.kills += hits
        found = compare_runs(victim.straight, run_dir)
        outcome.compared += found.compared
        outcome.differing_tensors += len(found.tensors)
        outcome.differing_rows += len(found.rows)
        outcome.differences += [f"{run_dir}: {line}" for line in found]
    outcome.seconds = round(time.monotonic() - began, 1)
    return outcome


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row a setting; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=KILLS, help="of each setting")
    parser.add_argument("--workers", type=int, nargs="+", default=[0, 2])
    parser.add_argument("--accumulation", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--precision", nargs="+", default=["fp32", "bf16"])
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument(
        "--forked", action="store_true", help="fork the uninterrupted runs too, to save time"
    )
    parser.add_argument("--keep", type=Path, help="a new folder that keeps all runs")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table as JSON")
    options = parser.parse_args(arguments)
    # As in the process of the run that is left in peace; and more would have to survive the forks.
    torch.set_num_threads(1)
    choose = random.Random(options.seed)
    outcomes = []
    with contextlib.ExitStack() as stack:
        if options.keep:
            options.keep.mkdir(parents=True)
        work = options.keep or stack.enter_context(tempfile.TemporaryDirectory())
        print("  ".join(HEADER), flush=True)
        for values in itertools.product(options.workers, options.accumulation, options.precision):
            outcome = try_setting(
                Setting(*values), options.kills, options.epochs, Path(work), choose, options.forked
            )
            outcomes.append(outcome)
            print(table_row(outcome), flush=True)
            for line in outcome.differences[:SHOWN_DIFFERENCES]:
                print(f"  {line}")
    different = sum(len(outcome.differences) for outcome in outcomes)
    kills = sum(outcome.kills.total() for outcome in outcomes)
    print(f"{kills} kills in {len(outcomes)} settings: {different} differences")
    if options.out:
        rows = [{**asdict(outcome), "kills": dict(outcome.kills)} for outcome in outcomes]
        options.out.write_text(json.dumps(rows, indent=2) + "\n", "utf-8")
    return 1 if different else 0


def table_row(outcome: Outcome) -> str:
    """One setting's figures under ``HEADER``."""
    setting = outcome.setting
    values = (
        *(setting.workers, setting.accumulation, setting.precision, outcome.kills.total()),
        *(outcome.kills[stage] for stage in STAGES),
        *(outcome.runs, outcome.compared, outcome.differing_tensors),
        *(outcome.differing_rows, outcome.seconds),
    )
    return "  ".join(f"{v:>{len(name)}}" for v, name in zip(values, HEADER, strict=True))


if __name__ == "__main__":
    sys.exit(main())
