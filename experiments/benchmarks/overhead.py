"""What the engine itself costs: microseconds a training step, beside hand-written loops and peers.

``python experiments/benchmarks/overhead.py --out overhead.json`` prints two tables and writes them.

The task is so small (an MLP 16-32-2, batches of 64 that are collated already) that the engine is
what is left. ``min`` is forward, loss, backward and step alone; ``full`` is all that
``tft_baseline`` attaches, and in the other engines what comes nearest to it. All run on one
thread in one process, one after the other, again and again; an epoch's time, validation and
checkpoint included, is divided by its steps, and the first epoch of each run is left out. Shown
is the median over the rounds, and the median of each round's ratio to the hand-written loop.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib.util
import io
import json
import os
import statistics
import sys
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from datasets.errors import UsageError, nearest
from datasets.specs import require_whole
from experiments.benchmarks import hand_written, peers, scanfire_engine
from experiments.benchmarks.tiny_task import Engine, TinyTask, make_task

REFERENCE = "bare"
# The first epoch of a run warms up.
EPOCHS = 4
NEEDS = {"monai": "monai", "lightning": "lightning"}  # an engine's first word -> package

Row = dict[str, float]
Table = dict[str, Row]


def engines() -> dict[str, dict[str, Engine]]:
    """``min`` and ``full`` -> engine -> how it trains; without peers that are not installed."""
    own, hand = scanfire_engine, hand_written
    found: dict[str, dict[str, Engine]] = {
        "min": {
            "bare": hand.minimal,
            "bare_fused": functools.partial(hand.minimal, fused=True),
            "scanfire": own.minimal,
            "scanfire_default_adamw": functools.partial(own.minimal, fused=False),
            "ignite_plain": peers.ignite_minimal,
        },
        "full": {
            "bare": hand.full,
            "bare_fused": functools.partial(hand.full, fused=True),
            "scanfire": own.full,
            "scanfire_default_adamw": functools.partial(own.full, fused=False),
            "ignite_plain": peers.ignite_full,
        },
    }
    if "monai" not in missing_peers():
        found["min"]["monai"] = peers.monai_minimal
        found["full"]["monai"] = peers.monai_full
        found["full"]["monai_decollate"] = functools.partial(peers.monai_full, decollate=True)
    if "lightning" not in missing_peers():
        from experiments.benchmarks import lightning_peer

        found["min"]["lightning"] = lightning_peer.minimal
        found["full"]["lightning"] = lightning_peer.full
        found["full"]["lightning_update_only"] = functools.partial(
            lightning_peer.full, each_step=False
        )
    return found


def missing_peers() -> list[str]:
    """The packages of the extra ``bench`` that are not installed."""
    return [name for name in NEEDS.values() if importlib.util.find_spec(name) is None]


def step_time(train: Engine, task: TinyTask) -> float:
    """Train once; microseconds a step over the epochs after the first."""
    marks: list[float] = []
    gc.collect()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(io.StringIO()),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")
        train(task, Path(folder), lambda: marks.append(time.perf_counter()))
    return (marks[-1] - marks[1]) / (task.steps - len(task.train)) * 1e6


def measure(chosen: Mapping[str, Engine], task: TinyTask, rounds: int) -> Table:
    """Run the engines in turn, every second round backwards.

    Args:
        chosen: Name -> engine, the hand-written loop among them.
        task: What to train on.
        rounds: How often.

    Returns:
        Name -> ``us`` (median microseconds a step) and ``ratio`` (to the hand-written loop).
    """
    times: dict[str, list[float]] = {name: [] for name in chosen}
    for number in range(rounds):
        order = list(chosen) if number % 2 == 0 else list(chosen)[::-1]
        for name in order:
            times[name].append(step_time(chosen[name], task))
    return {
        name: {
            "us": round(statistics.median(own), 1),
            "ratio": round(
                statistics.median(a / b for a, b in zip(own, times[REFERENCE], strict=True)), 3
            ),
        }
        for name, own in times.items()
    }


def compare(steps: int, rounds: int, names: Sequence[str] | None = None) -> dict[str, Table]:
    """Measure ``min`` and ``full``.

    Args:
        steps: Training batches an epoch.
        rounds: How often each engine runs.
        names: Which engines; None for all that are installed.
    """
    task = make_task(steps, EPOCHS)
    return {kind: measure(_choose(found, names), task, rounds) for kind, found in engines().items()}


def by_epoch_length(
    lengths: Sequence[int], rounds: int, names: Sequence[str] | None = None
) -> dict[str, Table]:
    """Measure ``full`` with epochs of several lengths, in steps."""
    chosen = _choose(engines()["full"], names)
    return {str(steps): measure(chosen, make_task(steps, EPOCHS), rounds) for steps in lengths}


def _choose(found: Mapping[str, Engine], names: Sequence[str] | None) -> dict[str, Engine]:
    known = {name for of_kind in engines().values() for name in of_kind}
    for name in names or ():
        if name not in known:
            raise UsageError(f"--engines: no engine is called '{name}'{nearest(name, known)}")
    return {n: e for n, e in found.items() if not names or n in names or n == REFERENCE}


def _print_table(title: str, columns: Mapping[str, Table]) -> None:
    print(title)
    print(f"  {'':<24}" + "".join(f"{head:>20}" for head in columns))
    for name in dict.fromkeys(name for table in columns.values() for name in table):
        cells = [table.get(name) for table in columns.values()]
        print(f"  {name:<24}" + "".join(f"{_cell(cell):>20}" for cell in cells))


def _cell(row: Row | None) -> str:
    return "-" if row is None else f"{row['us']:.0f} us {row['ratio']:6.2f}"


def pin_to_one_thread() -> None:
    """One thread on one core, where the system lets us choose it."""
    torch.set_num_threads(1)
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the tables as JSON")
    parser.add_argument("--steps", type=int, default=1000, metavar="N", help="steps an epoch")
    parser.add_argument("--rounds", type=int, default=5, metavar="R", help="turns of each engine")
    parser.add_argument("--engines", nargs="+", metavar="NAME", help="only these (and bare)")
    parser.add_argument(
        "--epoch-steps",
        nargs="+",
        type=int,
        metavar="N",
        help="also measure 'full' with epochs of these lengths",
    )
    chosen = parser.parse_args(arguments)
    try:
        lengths = chosen.epoch_steps or []
        require_whole("--steps", chosen.steps, 1)
        for steps in lengths:
            require_whole("--epoch-steps", steps, 1)
        require_whole("--rounds", chosen.rounds, 1)
        results: dict[str, Any] = compare(chosen.steps, chosen.rounds, chosen.engines)
        _print_table("us a step, and ratio to the hand-written loop", results)
        if lengths:
            results["epoch_steps"] = by_epoch_length(lengths, chosen.rounds, chosen.engines)
            _print_table("full, by steps an epoch", results["epoch_steps"])
        for package in missing_peers():
            print(f"left out: {package} is not installed (pip install 'scanfire[bench]')")
        if chosen.out is not None:
            chosen.out.write_text(json.dumps(results, indent=2) + "\n")
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    pin_to_one_thread()
    sys.exit(main())
