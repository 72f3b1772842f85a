"""Model families on the same splits: each is run, then all stand in one table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from datasets.errors import UsageError, file_errors
from datasets.files import write_whole
from engine.reporting import figure_text
from experiments.config import FAMILIES, choose_families, family_override, load_config
from experiments.run_files import read_run
from experiments.runs import run_each, states_of

if TYPE_CHECKING:
    from experiments.config import Config

SEEDS = (0, 1, 2)
# What a family or a seed decides cannot be set for all at once.
DECIDED = {
    "model": "each family has its own (--models, --families FILE)",
    "seed": "give --seeds",
    "exp_name": "runs are named after the configuration, the family and the seed",
}
# What all families have alike.
KEPT = ("model.members", "model.linear_path")


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

    ``families`` is a YAML file: family -> its ``model.params``; ``models`` of it (all) are run. The
    table goes to ``out``, by default ``<runs_dir>/<exp_name>-families.md``. Returns the exit code.
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
    text = families_table(configs, base.exp_name)
    with file_errors(f"--out: cannot write {place}"):
        write_whole(text.encode(), place.parent, place.name, durable=False)
    print(f"\n{text}\n{place}")
    return 0


def plan(
    source: str,
    overrides: Sequence[tuple[str, str]],
    families: Mapping[str, Mapping[str, Any]],
    seeds: Sequence[int],
    vary_cohort: bool = False,
) -> dict[tuple[int, str], Config]:
    """The configuration of each run, by seed and family."""
    for key, _ in overrides:
        section = key.partition(".")[0]
        if section in DECIDED and key not in KEPT:
            raise UsageError(f"--{key}: {DECIDED[section]}")
    if len(set(seeds)) < len(seeds):
        raise UsageError("--seeds: one of them is given twice")
    base = load_config(source, overrides)
    if vary_cohort and base.data.root is not None:
        raise UsageError("--vary-cohort draws simulated cohorts, but data.root names a real one")
    configs = {}
    for seed in seeds:
        for family, params in families.items():
            own = [
                family_override(base.model, family, params),
                ("seed", str(seed)),
                ("exp_name", f"{base.exp_name}-{family.rpartition('.')[2]}-s{seed}"),
            ]
            if vary_cohort:
                own.append(("data.simulated.seed", str(seed)))
            configs[seed, family] = load_config(source, [*overrides, *own])
    if len({config.exp_name for config in configs.values()}) < len(configs):
        raise UsageError("--models: two of them end in the same name")
    return configs


def run_all(configs: Mapping[tuple[int, str], Config]) -> int | None:
    """Run what is not finished yet; the exit code if a signal stopped a run, else None."""
    planned = list(configs.values())
    return run_each(planned, states_of(planned))


def families_table(configs: Mapping[tuple[int, str], Config], name: str) -> str:
    """The table of finished runs (:func:`families_text`)."""
    rows: list[dict[str, Any]] = []
    splits: dict[int, Mapping[str, str]] = {}
    for (seed, family), config in configs.items():
        run = read_run(config.runs_dir / config.exp_name, config.exp_name)
        if splits.setdefault(seed, run.subsets) != run.subsets:
            raise UsageError(f"{config.exp_name} has another split than the others of its seed")
        metric = str(run.monitor).removeprefix("val/")
        rows.append(
            {
                "family": family,
                "seed": seed,
                "val": run.validation,
                "test": run.test_figure(metric).value,
                "parameters": run.parameters or 0,
                "seconds": run.seconds,
            }
        )
    return families_text(name, metric, run.mode, pd.DataFrame(rows))


def families_text(name: str, metric: str, mode: str, runs: pd.DataFrame) -> str:
    """One row per family, the best median on validation first, and a verdict, in Markdown.

    What is undefined is the worst. ``runs`` has one row per run: ``family``, ``seed``, ``val`` and
    ``test`` (the monitored metric on both), ``parameters`` and the ``seconds`` spent in epochs.
    """
    of_family = runs.groupby("family", sort=False)
    medians = pd.DataFrame(
        {family: own[["val", "test"]].median(skipna=False) for family, own in of_family}
    ).T
    order: dict[str, Any] = {"ascending": mode == "min", "kind": "stable"}
    medians = medians.sort_values("val", **order)
    tests = runs.pivot(index="family", columns="seed", values="test")
    head = [
        "family",
        "parameters",
        f"validation {metric}, median",
        f"test {metric}, median",
        "test, mean",
        *(f"test, seed {seed}" for seed in tests),
        "seconds a run",
    ]
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    for family, median in medians.iterrows():
        own = tests.loc[family]
        cells = [
            str(family),
            f"{of_family['parameters'].max()[family]:,}",
            *map(figure_text, [*median, own.mean(skipna=False), *own]),
            f"{of_family['seconds'].median()[family]:.1f}",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    best, best_on_test = medians.index[0], medians.sort_values("test", **order).index[0]
    verdict = (
        f"By the median over {tests.shape[1]} seed{'s' * (tests.shape[1] > 1)}, "
        f"{best} is the best on validation"
        + (" and on test." if best == best_on_test else f", {best_on_test} on test.")
    )
    return "\n".join([f"# Families on {name}", "", *lines, "", verdict, ""])
