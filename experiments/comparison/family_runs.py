"""Model families on the same splits: each is run, then all stand in one table."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, nearest
from datasets.files import write_whole
from engine.reporting import figure_text
from experiments.config import Config, load_config, read_yaml, write_yaml
from experiments.run_files import METRICS_NAME, read_cost, read_metric
from experiments.runs import run_planned


@dataclass(frozen=True)
class Row:
    """One finished run.

    Attributes:
        family: Of the model.
        seed: Of the run and its split.
        val: The monitored metric of the best epoch.
        test: The same metric on the test set.
        parameters: Numbers that training can move.
        seconds: Spent in epochs.
    """

    family: str
    seed: int
    val: float
    test: float
    parameters: int
    seconds: float


@dataclass(frozen=True)
class Table:
    """All runs, and by what they are judged.

    Attributes:
        name: Of the configuration.
        metric: The monitored metric.
        mode: ``max`` where larger is better, else ``min``.
        rows: One per run.
    """

    name: str
    metric: str
    mode: str
    rows: list[Row]

    def markdown(self) -> str:
        """One row per family, the best on validation first."""
        families = sorted(
            dict.fromkeys(row.family for row in self.rows),
            key=lambda family: self._rank(self._median(family, "val")),
        )
        seeds = sorted({row.seed for row in self.rows})
        head = [
            "family",
            "parameters",
            f"validation {self.metric}, median",
            f"test {self.metric}, median",
            "test, mean",
            *(f"test, seed {seed}" for seed in seeds),
            "seconds a run",
        ]
        lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
        for family in families:
            own = {row.seed: row for row in self.rows if row.family == family}
            tests = [own[seed].test if seed in own else math.nan for seed in seeds]
            cells = [
                family,
                f"{max(row.parameters for row in own.values()):,}",
                figure_text(self._median(family, "val")),
                figure_text(self._median(family, "test")),
                figure_text(statistics.fmean(tests)),
                *map(figure_text, tests),
                f"{statistics.median(row.seconds for row in own.values()):.1f}",
            ]
            lines.append(f"| {' | '.join(cells)} |")
        best = {
            side: min(families, key=lambda family: self._rank(self._median(family, side)))
            for side in ("val", "test")
        }
        verdict = (
            f"By the median over {len(seeds)} seed{'s' * (len(seeds) > 1)}, "
            f"{best['val']} is the best on validation"
            + (" and on test." if best["val"] == best["test"] else f", {best['test']} on test.")
        )
        return "\n".join([f"# Families on {self.name}", "", *lines, "", verdict, ""])

    def _median(self, family: str, side: str) -> float:
        values = [getattr(row, side) for row in self.rows if row.family == family]
        return math.nan if any(map(math.isnan, values)) else statistics.median(values)

    def _rank(self, value: float) -> float:
        """A number that is smaller for what is better; the undefined is the worst."""
        if math.isnan(value):
            return math.inf
        return -value if self.mode == "max" else value


def read_row(folder: Path, family: str, seed: int) -> tuple[Row, str, str]:
    """A finished run's row, its monitored metric and mode."""
    metrics = json.loads((folder / METRICS_NAME).read_text("utf-8"))
    monitor: str = metrics["monitor"]
    metric = monitor.removeprefix("val/")
    parameters, seconds = read_cost(folder)
    row = Row(
        family,
        seed,
        read_metric(metrics["best"], monitor),
        read_metric(metrics["test"], metric),
        parameters or 0,
        seconds,
    )
    return row, metric, metrics["mode"]


FAMILIES = Path(__file__).parent / "families.yaml"
SEEDS = (0, 1, 2)
# What a family or a seed decides cannot be set for all at once.
DECIDED = {
    "model": "each family has its own (--models, --families FILE)",
    "seed": "give --seeds",
    "exp_name": "runs are named after the configuration, the family and the seed",
}


def compare_families(
    source: str,
    overrides: Sequence[tuple[str, str]] = (),
    models: Sequence[str] | None = None,
    seeds: Sequence[int] = SEEDS,
    families: Path = FAMILIES,
    vary_cohort: bool = False,
    out: Path | None = None,
) -> int:
    """Run what is not finished yet, then write and print the table.

    Args:
        source: The configuration that all share.
        overrides: Dotted keys and values as YAML text, on top of it.
        models: Families to run; None for all of the file.
        seeds: One run of each family for each.
        families: A YAML file: family -> its ``model.params``.
        vary_cohort: Draw another simulated cohort for each seed, too.
        out: The table's file; ``<runs_dir>/<exp_name>-families.md`` by default.

    Returns:
        What the process should leave with: 0, or the code of a signal that stopped a run.

    Raises:
        UsageError: Something that can be mended; found out before the first training.
    """
    chosen = choose_families(families, models)
    configs = plan(source, overrides, chosen, seeds, vary_cohort)
    base = load_config(source, overrides)
    place = out or base.runs_dir / f"{base.exp_name}-families.md"
    if out and not out.parent.is_dir():
        raise UsageError(f"--out: there is no folder {out.parent}")
    code = run_all(configs)
    if code is not None:
        print("to continue: the same command line")
        return code
    text = make_table(configs, base.exp_name).markdown()
    try:
        write_whole(text.encode(), place.parent, place.name, durable=False)
    except OSError as error:
        raise UsageError(f"--out: cannot write {place}: {error.strerror}") from error
    print(f"\n{text}\n{place}")
    return 0


def plan(
    source: str,
    overrides: Sequence[tuple[str, str]],
    families: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    vary_cohort: bool = False,
) -> dict[tuple[int, str], Config]:
    """The configuration of each run, by seed and family.

    Raises:
        UsageError: A key is set that the family or the seed decides, or a name is used twice.
    """
    for key, _ in overrides:
        section = key.partition(".")[0]
        if section in DECIDED:
            raise UsageError(f"--{key}: {DECIDED[section]}")
    if len(set(seeds)) < len(seeds):
        raise UsageError("--seeds: one of them is given twice")
    base = load_config(source, overrides)
    configs = {}
    for seed in seeds:
        for family, params in families.items():
            own = [
                ("model", write_yaml({"name": family, "params": dict(params)})),
                ("seed", str(seed)),
                ("exp_name", f"{base.exp_name}-{family.rpartition('.')[2]}-s{seed}"),
            ]
            if vary_cohort:
                own.append(("data.simulated.seed", str(seed)))
            configs[seed, family] = load_config(source, [*overrides, *own])
    if vary_cohort and base.data.root is not None:
        raise UsageError("--vary-cohort draws simulated cohorts, but data.root names a real one")
    if len({config.exp_name for config in configs.values()}) < len(configs):
        raise UsageError("--models: two of them end in the same name")
    return configs


def run_all(configs: Mapping[tuple[int, str], Config]) -> int | None:
    """Run what is not finished yet.

    Returns:
        What the process should leave with where a signal stopped a run, else None.

    Raises:
        UsageError: A configuration does not work; found out before the first training.
    """
    return run_planned(list(configs.values()), lambda config: config.model.name)


def make_table(configs: Mapping[tuple[int, str], Config], name: str) -> Table:
    """The table of finished runs.

    Raises:
        UsageError: The families of one seed were not given the same split.
    """
    rows, metric, mode = [], "", "max"
    splits: dict[int, bytes] = {}
    for (seed, family), config in configs.items():
        folder = config.runs_dir / config.exp_name
        row, metric, mode = read_row(folder, family, seed)
        rows.append(row)
        split = (folder / "splits.csv").read_bytes()
        if splits.setdefault(seed, split) != split:
            raise UsageError(f"{config.exp_name} has another split than the others of its seed")
    return Table(name, metric, mode, rows)


def choose_families(path: Path, wanted: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    """Families and their parameters, all of the file or those that are wanted."""
    try:
        known = read_yaml(path.read_text("utf-8"), str(path))
    except OSError as error:
        raise UsageError(f"--families: cannot read {path}: {error.strerror}") from error
    if not isinstance(known, dict) or not all(isinstance(p, dict) for p in known.values()):
        raise UsageError(f"{path}: expected families with their parameters, such as tft: {{}}")
    for name in wanted or ():
        if name not in known and "." not in name:
            raise UsageError(f"--models: no family is called '{name}'{nearest(name, known)}")
    return {name: known.get(name, {}) for name in wanted or known}
