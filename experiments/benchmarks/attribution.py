"""Are the attributions faithful? On a cohort whose truth is known they can be held against it.

``python experiments/benchmarks/attribution.py [--seeds 0 1 2] [--runs DIR] [--out FILE]`` trains
``tft_baseline``, or another ``--config NAME|FILE`` with ``--section.key VALUE``, once a seed (which
also draws the cohort), explains its test side and prints a table; the exit code is 1 where a figure
falls short, 2 where something cannot be used. About four minutes on two cores.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from datasets.errors import UsageError
from datasets.files import write_whole
from experiments.benchmarks.faithfulness import (
    REPLACED,
    TIMED_SAMPLES,
    TOP,
    Figures,
    measure,
    read_subject,
)
from experiments.command_line import read_overrides
from experiments.comparison import run_all
from experiments.config import Config, load_config

CONFIG = "tft_baseline"
SEEDS = (0, 1, 2)
LEAST_FOUND, MOST_UNTRAINED = 7, 2
LEAST_DROP, LEAST_RATIO = 0.08, 5.0
LARGEST_GAP = 0.01
MOST_SECONDS = 60.0
COLUMNS = (
    "seed",
    "AUROC",
    "found",
    "untrained",
    "drop",
    "random drop",
    "ratio",
    "gap %",
    "seconds",
)
# As wide as what stands below.
HEADER = tuple(f"{name:>5}" for name in COLUMNS)


def shortfalls(figures: Figures) -> list[str]:
    """What falls short of what was set, in a line each."""
    demands = (
        (
            figures.found >= LEAST_FOUND,
            f"{figures.found} of 8 planted peaks are among the {TOP} highest windows, at least "
            f"{LEAST_FOUND} were asked for",
        ),
        (
            figures.untrained <= MOST_UNTRAINED,
            f"an untrained model finds {figures.untrained} of them, at most {MOST_UNTRAINED} "
            "were asked for",
        ),
        (
            figures.drop >= LEAST_DROP,
            f"without the {REPLACED} highest windows the predicted class is less likely by "
            f"{figures.drop:.3f}, at least {LEAST_DROP} was asked for",
        ),
        (
            figures.ratio >= LEAST_RATIO,
            f"that is {figures.ratio:.1f} times what random windows on peaks do, at least "
            f"{LEAST_RATIO:g} was asked for",
        ),
        (
            figures.gap <= LARGEST_GAP,
            f"contributions miss the logit difference by {figures.gap:.2%} at the 95th percentile, "
            f"at most {LARGEST_GAP:.0%} was asked for",
        ),
        (
            figures.seconds <= MOST_SECONDS,
            f"{TIMED_SAMPLES} samples took {figures.seconds:.0f} s, at most {MOST_SECONDS:.0f} s "
            "were asked for",
        ),
    )
    return [f"seed {figures.seed}: {line}" for met, line in demands if not met]


def plan_runs(
    seeds: Sequence[int],
    runs_dir: Path,
    source: str = CONFIG,
    overrides: Sequence[tuple[str, str]] = (),
) -> dict[tuple[int, str], Config]:
    """The run of each seed; each draws a cohort of its own."""
    if len(set(seeds)) < len(seeds):
        raise UsageError("--seeds: one of them is given twice")
    name = load_config(source, overrides).exp_name
    return {
        (seed, source): load_config(
            source,
            [
                *overrides,
                ("seed", str(seed)),
                ("data.simulated.seed", str(seed)),
                ("runs_dir", str(runs_dir)),
                ("exp_name", f"{name}-s{seed}"),
                # Nothing that a person would read is asked for, which saves half a minute.
                ("report.enabled", "false"),
                ("report.resamples", "0"),
            ],
        )
        for seed in seeds
    }


def table_row(figures: Figures) -> str:
    """One run's figures under ``HEADER``."""
    values = (
        str(figures.seed),
        f"{figures.auroc:.3f}",
        f"{figures.found}/8",
        f"{figures.untrained}/8",
        f"{figures.drop:.3f}",
        f"{figures.random_drop:.4f}",
        f"{figures.ratio:.1f}",
        f"{100 * figures.gap:.3f}",
        f"{figures.seconds:.1f}",
    )
    return "  ".join(f"{v:>{len(name)}}" for v, name in zip(values, HEADER, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row a seed; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument(
        "--runs", type=Path, metavar="DIR", help="keeps the runs; those finished are used again"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="the table as JSON")
    parser.add_argument("--config", default=CONFIG, metavar="NAME|FILE", help="what is trained")
    options, rest = parser.parse_known_args(arguments)
    try:
        own = options.config, read_overrides(rest)
        with tempfile.TemporaryDirectory() as scratch:
            configs = plan_runs(options.seeds, (options.runs or Path(scratch)).resolve(), *own)
            stopped = run_all(configs)
            if stopped is not None:
                return stopped
            print("\n" + "  ".join(HEADER), flush=True)
            measured = []
            for config in configs.values():
                subject = read_subject(config.runs_dir / config.exp_name)
                measured.append(measure(subject))
                print(table_row(measured[-1]), flush=True)
        if options.out:
            # JSON knows neither infinity nor NaN.
            rows = [
                {n: v if math.isfinite(v) else None for n, v in figures.plain().items()}
                for figures in measured
            ]
            text = json.dumps(rows, indent=2) + "\n"
            write_whole(text.encode(), options.out.parent, options.out.name, durable=False)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        print(f"error: {error.filename}: {error.strerror}", file=sys.stderr)
        return 2
    # What the first one took, the process may keep for the others.
    most = max(figures.mebibytes for figures in measured)
    print(f"explaining took at most {most:.0f} MiB beside what was held before")
    lines = [line for figures in measured for line in shortfalls(figures)]
    print("\n".join(lines) if lines else "nothing falls short")
    return 1 if lines else 0


if __name__ == "__main__":
    sys.exit(main())
