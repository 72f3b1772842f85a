"""How throughput grows with the number of processes, each on a batch of its own (weak scaling).

``python experiments/benchmarks/scaling.py --processes 1 2 --out scaling.json`` starts itself anew
for each number of processes, through ``torch.distributed.run``: NCCL between GPUs, Gloo between
processors. Every process trains on batches of as many samples, by this project's trainer and
:class:`handlers.distributed_training.DataParallel`; the batches are the same ones however many
processes share them, as the project's sampler deals them out. A step's time is that of the
slowest, the median over windows of steps. ``efficiency`` is samples a second by what as many of
the first row's processes would reach side by side.

Then the processes share a validation side that does not divide evenly, measure it together, and
are held against this process, which measures all of it alone: ``metrics differ by`` is the largest
difference of any metric in any process.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import torch

from datasets.errors import UsageError
from datasets.files import write_whole
from datasets.specs import require_whole
from engine.precision import best_device
from experiments.benchmarks import scaling_worker
from experiments.benchmarks.scaling_worker import measure_validation
from experiments.benchmarks.step_figures import BATCHES, WARMUP_COMPILED
from experiments.benchmarks.step_settings import add_size_options, parse_variant, read_size

VARIANTS = {"cpu": "fp32-packed", "cuda": "bf16-packed"}
SECONDS = 3.0
# Starting processes, compiling in each and measuring; longer is a hang.
TIMEOUT_S = 300
# Of what a failed launch said, the last lines tell why.
SHOWN_LINES = 25
LARGEST_DIFFERENCE = 1e-6
COLUMNS = ("ms", "slowest/fastest", "samples/s", "ratio", "efficiency", "metrics differ by")


class LaunchError(RuntimeError):
    """Processes that were started did not get to the end."""


def launch(processes: int, settings: Mapping[str, Any], timeout: float = TIMEOUT_S) -> Any:
    """Have so many processes measure; returns what each of them found, by rank.

    Args:
        processes: How many.
        settings: For :func:`experiments.benchmarks.scaling_worker.work`.
        timeout: In seconds.

    Raises:
        LaunchError: One of them failed, or all took too long.
    """
    with tempfile.TemporaryDirectory() as folder:
        asked, found = Path(folder) / "settings.json", Path(folder) / "found.json"
        asked.write_text(json.dumps(settings), "utf-8")
        # One thread each, or they would take the processor from each other.
        environment = {"OMP_NUM_THREADS": "1", **os.environ}
        command = [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone"),
            *(f"--nproc-per-node={processes}", scaling_worker.__file__, str(asked), str(found)),
        ]
        started = subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )
        try:
            said, _ = started.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            # Asked politely, the launcher ends the processes that it has started.
            started.terminate()
            said, _ = started.communicate()
            raise LaunchError(_last_lines(said, f"not done after {timeout:g} s")) from None
        # It is written when all of them are done, whatever becomes of them when they part.
        if not found.is_file():
            raise LaunchError(_last_lines(said, f"exit code {started.returncode}"))
        return json.loads(found.read_text("utf-8"))


def _last_lines(said: str, why: str) -> str:
    return "\n".join([why, *said.splitlines()[-SHOWN_LINES:]])


def row_of(
    found: Sequence[Mapping[str, Any]],
    samples: int,
    first: Mapping[str, Any] | None,
    alone: Mapping[str, float],
) -> dict[str, Any]:
    """A row of the table.

    Args:
        found: What each process found.
        samples: B, of each.
        first: The table's first row; None where this is it.
        alone: The validation metrics of one process.

    Example:
        >>> one = row_of([{"ms": 10.0, "metrics": {}}], 8, None, {})
        >>> two = row_of([{"ms": 12.0, "metrics": {}}, {"ms": 12.5, "metrics": {}}], 8, one, {})
        >>> two["samples_per_s"], two["ratio"], two["efficiency"]
        (1280.0, 1.6, 0.8)
    """
    times = [each["ms"] for each in found]
    rate = len(found) * samples / max(times) * 1000.0
    ratio = 1.0 if first is None else rate / first["samples_per_s"]
    differences = [largest_difference(each["metrics"], alone) for each in found]
    return {
        "processes": len(found),
        "ms": max(times),
        "ms_of_each": times,
        "samples_per_s": rate,
        "ratio": ratio,
        "efficiency": 1.0 if first is None else ratio * first["processes"] / len(found),
        "metrics_differ_by": max(differences),
        "metrics": found[0]["metrics"],
    }


def largest_difference(found: Mapping[str, float], expected: Mapping[str, float]) -> float:
    """Between two sets of metrics; infinite where one has what the other has not.

    Example:
        >>> largest_difference({"loss": 0.5, "auroc": float("nan")}, {"loss": 0.25})
        inf
    """
    if found.keys() != expected.keys():
        return math.inf
    pairs = [(value, expected[name]) for name, value in found.items()]
    if any(math.isnan(a) != math.isnan(b) for a, b in pairs):
        return math.inf
    return max((abs(a - b) for a, b in pairs if not math.isnan(a)), default=0.0)


def shared_batches(processes: Sequence[int], each: int) -> int:
    """How many batches there are, that divide among any of these numbers of processes.

    Args:
        processes: The numbers of processes.
        each: At least so many for each, where there are most.

    Example:
        >>> shared_batches([1, 2, 3], each=4)
        12
    """
    divisor = math.lcm(*processes)
    return divisor * math.ceil(each * max(processes) / divisor)


def _print_row(row: Mapping[str, Any]) -> None:
    times = row["ms_of_each"]
    cells = (
        f"{row['ms']:.2f}",
        f"{max(times) / min(times):.2f}",
        f"{row['samples_per_s']:.1f}",
        f"{row['ratio']:.2f}",
        f"{row['efficiency']:.1%}",
        f"{row['metrics_differ_by']:.1e}",
    )
    print(f"{row['processes']:>10}" + "".join(f"{c:>18}" for c in cells), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print; returns the exit code: 1 where something failed or metrics differ."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_size_options(parser)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2], metavar="N")
    parser.add_argument("--device", default="auto", help="cpu, cuda or auto")
    parser.add_argument("--variant", metavar="NAME", help="as 'bf16-packed-graphs'")
    parser.add_argument("--static-graph", action="store_true", help="of DataParallel")
    parser.add_argument(
        "--overlap",
        action=argparse.BooleanOptionalAction,
        help="of DataParallel; by default yes, but for graphs",
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each row")
    parser.add_argument("--steps", type=int, metavar="N", help="measured steps, in place of it")
    parser.add_argument("--warmup", type=int, metavar="N", help="steps before")
    parser.add_argument("--timeout", type=float, default=TIMEOUT_S, metavar="S", help="of a row")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write the figures as JSON")
    options = parser.parse_args(arguments)
    try:
        return _measure(options)
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _measure(options: argparse.Namespace) -> int:
    try:
        device = best_device(options.device)
    except ValueError as error:
        raise UsageError(f"--device: {error}") from error
    for name in ("steps", "warmup"):
        if getattr(options, name) is not None:
            require_whole(f"--{name}", getattr(options, name), 1)
    for count in options.processes:
        require_whole("--processes", count, 1)
        if device.type == "cuda" and count > torch.cuda.device_count():
            raise UsageError(f"--processes: {count}, but {torch.cuda.device_count()} GPUs")
    size = read_size(options, device)
    variant = parse_variant(options.variant or VARIANTS[device.type])
    settings = {
        "size": vars(size),
        "variant": variant.name,
        "device": device.type,
        "batches": shared_batches(options.processes, BATCHES[device.type]),
        "static_graph": options.static_graph,
        "overlap": variant.compiled != "graphs" if options.overlap is None else options.overlap,
        "seconds": options.seconds,
        "steps": options.steps,
        "warmup": options.warmup or WARMUP_COMPILED[device.type],
    }
    print(f"{device.type}, {variant.name}: B {size.samples} a process, {vars(size)}", flush=True)
    alone = measure_validation(size, device)
    print(f"{'processes':>10}" + "".join(f"{column:>18}" for column in COLUMNS))
    rows: list[dict[str, Any]] = []
    failed = False
    for count in options.processes:
        try:
            found = launch(count, settings, options.timeout)
        except LaunchError as error:
            failed = True
            print(f"{count:>10}  failed: {error}", flush=True)
            continue
        rows.append(row_of(found, size.samples, rows[0] if rows else None, alone))
        _print_row(rows[-1])
    if options.out is not None:
        text = json.dumps({**settings, "torch": torch.__version__, "rows": rows}, indent=2) + "\n"
        write_whole(text.encode(), options.out.parent, options.out.name, durable=False)
    differ = [row for row in rows if row["metrics_differ_by"] > LARGEST_DIFFERENCE]
    for row in differ:
        print(f"{row['processes']} processes measure other metrics than one")
    return 1 if failed or differ else 0


if __name__ == "__main__":
    torch.set_num_threads(1)
    sys.exit(main())
