"""Model families on the same splits: each is run, then all stand in one table.

Each family is run as an experiment of its own, ``<exp_name>-<family>-s<seed>``, in one after the
other; the seed also draws the split, which all families of that seed share. Runs that are finished
are not run again, and one that was cut off is continued: the same call goes on where it was
stopped. The table is made anew from the runs each time.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from datasets.errors import UsageError, nearest
from datasets.files import write_whole
from experiments.comparison.family_table import Table, read_row
from experiments.config import Config, load_config, read_yaml, write_yaml
from experiments.runs import run_planned

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

    Args:
        source: The configuration that all share.
        overrides: Dotted keys and values as YAML text, on top of it.
        families: Family -> its ``model.params``.
        seeds: One run of each family for each.
        vary_cohort: Draw another simulated cohort for each seed, too.

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
    """Families and their parameters, all of the file or those that are wanted.

    Args:
        path: A YAML file: family -> parameters.
        wanted: Names of the file, or dotted paths of other models, which get no parameters.
    """
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
