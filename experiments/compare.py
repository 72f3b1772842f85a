"""Model families on the same splits: ``python experiments/compare.py NAME|FILE [--seeds 0 1 2]``.

Each family is run as an experiment of its own, ``<exp_name>-<family>-s<seed>``, in one after the
other; the seed also draws the split, which all families of that seed share. Runs that are finished
are not run again, and one that was cut off is continued: the same command line goes on where it
was stopped. The table is made anew from the runs each time.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.errors import UsageError, nearest
from engine.files import write_whole
from experiments.config import Config
from experiments.config_source import CONFIGS, load_config
from experiments.experiment import Experiment
from experiments.family_table import Table, read_row
from experiments.run import INTERRUPTED, USAGE_ERROR, read_overrides
from experiments.run_folder import CONFIG_NAME, is_finished
from experiments.yaml_text import read_yaml, write_yaml

FAMILIES = Path(__file__).parent / "families.yaml"
# What a family or a seed decides cannot be set for all at once.
DECIDED = {
    "model": "each family has its own (--models, --families FILE)",
    "seed": "give --seeds",
    "exp_name": "runs are named after the configuration, the family and the seed",
}


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


def state_of(config: Config) -> str:
    """``absent``, ``cut off`` or ``finished``: how far a run has come.

    Raises:
        UsageError: Its folder holds a run with another configuration.
    """
    folder = config.runs_dir / config.exp_name
    if not folder.exists():
        return "absent"
    if not (folder / CONFIG_NAME).is_file():
        raise UsageError(f"{folder} exists, but holds no run that can be continued; move it away")
    there, wanted = load_config(str(folder / CONFIG_NAME)).plain(), config.plain()
    differing = [key for key in wanted if there.get(key) != wanted[key]]
    if differing:
        raise UsageError(
            f"{folder} is a run with another configuration ({', '.join(differing)}); move it away "
            "or set --runs_dir"
        )
    return "finished" if is_finished(folder) else "cut off"


def run_all(configs: Mapping[tuple[int, str], Config]) -> int | None:
    """Run what is not finished yet.

    Returns:
        What the process should leave with where a signal stopped a run, else None.

    Raises:
        UsageError: A configuration does not work; found out before the first training.
    """
    states = {key: state_of(config) for key, config in configs.items()}
    tried = set()
    for (seed, family), config in configs.items():
        if states[seed, family] == "absent" and family not in tried:
            tried.add(family)
            with tempfile.TemporaryDirectory() as scratch:
                Experiment(config.model_copy(update={"runs_dir": Path(scratch)})).setup()
    for number, (key, config) in enumerate(configs.items(), start=1):
        title = f"[{number}/{len(configs)}] {config.exp_name}"
        if states[key] == "finished":
            print(f"{title}: finished before")
            continue
        folder = config.runs_dir / config.exp_name
        print(f"{title}{': continued' if states[key] == 'cut off' else ''}", flush=True)
        experiment = Experiment(config, folder if states[key] == "cut off" else None)
        experiment.run()
        if experiment.exit_code is not None:
            return experiment.exit_code
    return None


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


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    names = ", ".join(sorted(path.stem for path in CONFIGS.glob("*.yaml")))
    parser = argparse.ArgumentParser(
        prog="compare.py",
        description="Run model families on the same splits and print a table.",
        epilog="Any key of the configuration can be set as --section.key VALUE, as for run.py.",
        allow_abbrev=False,
    )
    parser.add_argument("experiment", metavar="NAME|FILE", help=f"one of {names}; or a file")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2], metavar="SEED")
    parser.add_argument(
        "--models", nargs="+", metavar="FAMILY", help="all of the file if not given"
    )
    parser.add_argument("--families", type=Path, default=FAMILIES, metavar="FILE")
    parser.add_argument(
        "--vary-cohort", action="store_true", help="another simulated cohort for each seed"
    )
    parser.add_argument("--out", type=Path, metavar="FILE", help="<runs_dir>/<name>-families.md")
    known, rest = parser.parse_known_args(arguments)
    return known, read_overrides(rest)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    try:
        options, overrides = parse_arguments(sys.argv[1:] if arguments is None else arguments)
        families = choose_families(options.families, options.models)
        configs = plan(options.experiment, overrides, families, options.seeds, options.vary_cohort)
        base = load_config(options.experiment, overrides)
        out = options.out or base.runs_dir / f"{base.exp_name}-families.md"
        if options.out and not out.parent.is_dir():
            raise UsageError(f"--out: there is no folder {out.parent}")
        code = run_all(configs)
        if code is not None:
            print("to continue: the same command line")
            return code
        text = make_table(configs, base.exp_name).markdown()
        try:
            write_whole(text.encode(), out.parent, out.name, durable=False)
        except OSError as error:
            raise UsageError(f"--out: cannot write {out}: {error.strerror}") from error
        print(f"\n{text}\n{out}")
        return 0
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        print("interrupted; the same command line continues", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(main())
