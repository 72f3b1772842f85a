"""What a cross-validation runs: its folds, the candidates, and a configuration for each run."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from datasets.errors import UsageError, nearest
from engine.metrics import TASKS
from experiments.builders import (
    choose_automatically,
    digest_memory,
    make_folds,
    read_cohort,
    split_fold,
)
from experiments.config import (
    FAMILIES,
    IN_FOLDS,
    Config,
    choose_families,
    family_override,
    is_automatic,
    keep_automatic,
    load_config,
)
from experiments.run_files import DataVersion, data_version

if TYPE_CHECKING:
    from datasets.cohort import Cohort

# What folds decide cannot be set for all of them at once.
DECIDED = {
    "data.split.fold": "every fold is run",
    "data.split.file": "a file is one split, and no folds",
}
ALL = "all"
# Longer names of groups are cut: a folder's name has to stay one.
LONGEST_NAME = 40

Overrides = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Fold:
    """One fold: its split [N] with the data's version, and the baselines' configuration.

    ``name`` is its number, or that of the group or batch that is tested; ``repeat`` is from 0 on.
    """

    name: str
    repeat: int
    split: np.ndarray
    version: DataVersion
    config: Config


@dataclass(frozen=True)
class Plan:
    """A cross-validation: ``runs`` has candidate, seed, number of the fold -> configuration.

    ``kind`` is what a fold is called: ``fold``, ``group``, or the column of batches. A candidate is
    a family, or a family and its place in the grid.
    """

    base: Config
    cohort: Cohort
    kind: str
    folds: list[Fold]
    candidates: list[str]
    seeds: list[int]
    runs: dict[tuple[str, int, int], Config]

    @property
    def folder(self) -> Path:
        """Where the results go."""
        return self.base.runs_dir / f"{self.base.exp_name}-folds"

    @property
    def repeats(self) -> int:
        """How often each sample is tested."""
        return self.folds[-1].repeat + 1

    def without(self, candidate: str) -> Plan:
        """The same without a network."""
        return replace(
            self,
            candidates=[name for name in self.candidates if name != candidate],
            runs={key: config for key, config in self.runs.items() if key[0] != candidate},
        )


def make_plan(
    source: str,
    overrides: Overrides = (),
    count: int | None = None,
    repeats: int = 1,
    models: Sequence[str] = (),
    seeds: int = 1,
    grid: Sequence[str] = (),
) -> Plan:
    """Read the cohort and split it, fold by fold; :func:`cross_validate` has the arguments."""
    for key, _ in overrides:
        if key in DECIDED:
            raise UsageError(f"--{key}: {DECIDED[key]}")
    shared = list(overrides)
    if count is not None:
        shared += [("data.split.kind", "kfold"), ("data.split.folds", str(count))]
    base = load_config(source, shared)
    _check_split(base, repeats)
    cohort = read_cohort(base.data)
    if "metrics" in base.derived():  # the data may be of several classes
        base.derive("metrics", list(TASKS[cohort.task].metrics))
    candidates = _candidates(base, models, grid)
    files = cohort.fingerprint(digest_memory(base.data))
    first_seed = base.data.split.seed or 0
    folds: list[Fold] = []
    runs: dict[tuple[str, int, int], Config] = {}
    for repeat in range(repeats):
        again = [("data.split.seed", str(first_seed + repeat))] if repeat else []
        settings = load_config(source, [*shared, *again]).data
        drawn = make_folds(cohort, settings)
        for number, name in enumerate(drawn.names):
            split = split_fold(cohort, settings, drawn, number)
            by_number = settings.split.kind == "kfold"
            place = str(number) if by_number else json.dumps(name, ensure_ascii=False)
            own = [*shared, *again, ("data.split.fold", place)]
            title = f"{f'r{repeat}-' if repeat else ''}fold{number}"
            title += "" if by_number else f"-{_as_file_name(name)}"
            of_fold = load_config(source, own)
            if is_automatic(of_fold):
                for line in choose_automatically(of_fold, cohort, split == "train"):
                    print(f"{title} {line}", flush=True)
            version = data_version(of_fold.data, cohort, files).with_split(cohort.sample_ids, split)
            folds.append(Fold(name, repeat, split, version, of_fold))
            for (candidate, lines), seed in product(candidates.items(), range(seeds)):
                called = [base.exp_name, title]
                if candidate != base.model.name:
                    called.insert(1, _as_file_name(candidate))
                chosen = [*own, *lean_settings(base), *lines]
                if seed:  # the split stays that of the first seed
                    called.append(f"s{base.seed + seed}")
                    kept = str(first_seed + repeat)
                    chosen += [("seed", str(base.seed + seed)), ("data.split.seed", kept)]
                chosen.append(("exp_name", json.dumps("-".join(called), ensure_ascii=False)))
                config = load_config(source, chosen)
                keep_automatic(config, of_fold.resolved())
                runs[candidate, base.seed + seed, len(folds) - 1] = config
    if len({config.exp_name for config in runs.values()}) < len(runs):
        raise UsageError("--models: two of them end in the same name")
    of = [base.seed + seed for seed in range(seeds)]
    return Plan(base, cohort, drawn.kind, folds, list(candidates), of, runs)


def _check_split(base: Config, repeats: int) -> None:
    split = base.data.split
    if split.file is not None:
        raise UsageError(f"data.split.file: {DECIDED['data.split.file']}; leave it out")
    if split.kind not in IN_FOLDS:
        raise UsageError(
            f"data.split.kind: a {split.kind} has no folds{nearest(split.kind, IN_FOLDS)}; or give "
            "--folds, how many a kfold is to have"
        )
    if repeats > 1 and split.kind != "kfold":
        raise UsageError(f"--repeats goes with a kfold: a {split.kind} is the same each time")


def lean_settings(base: Config) -> list[tuple[str, str]]:
    """What is done once for all runs, and so not in each; pages only if they were asked for."""
    lines = [("baselines.enabled", "false"), ("audit.enabled", "false")]
    if "save_top_k" not in base.checkpoint.model_fields_set:  # nobody reads them, and they are many
        lines.append(("checkpoint.save_top_k", "0"))
    if "enabled" not in base.report.model_fields_set or not base.report.enabled:
        lines += [("report.enabled", "false"), ("report.resamples", "0")]
    return lines


def _candidates(base: Config, wanted: Sequence[str], grid: Sequence[str]) -> dict[str, Overrides]:
    """Name of each network -> its settings; the configuration's own keeps its parameters."""
    own = base.model.name
    if ALL in wanted and len(wanted) > 1:
        raise UsageError("--models: all is all, and stands alone")
    names = [own, *choose_families(FAMILIES, None)] if ALL in wanted else wanted or [own]
    found: dict[str, Overrides] = {}
    for name, point in product(dict.fromkeys(names), _grid(grid)):
        lines = []
        if name != own:
            params = choose_families(FAMILIES, [name])[name]
            lines.append(family_override(base.model, name, params))
        found[" ".join([name, *(f"{key}={value}" for key, value in point)])] = [*lines, *point]
    return found


def _grid(texts: Sequence[str]) -> list[list[tuple[str, str]]]:
    """Each place in the grid: pairs of key and value; one without any if there is no grid.

    Example:
        >>> _grid(["optimizer.lr=1e-4,1e-3"])
        [[('optimizer.lr', '1e-4')], [('optimizer.lr', '1e-3')]]
    """
    axes = []
    for text in texts:
        key, equals, values = text.partition("=")
        if not key or not equals or not all(values.split(",")) or ":" in text:
            raise UsageError(f"--grid: '{text}' is not understood: expected KEY=VALUE,VALUE")
        if key.partition(".")[0] in ("data", "seed", "exp_name", "runs_dir"):
            raise UsageError(f"--grid: {key} cannot differ between models on the same folds")
        axes.append([(key, value) for value in values.split(",")])
    return [list(point) for point in product(*axes)]


def _as_file_name(name: str) -> str:
    """A name as a part of a folder's; the fold's number keeps those alike apart."""
    return re.sub(r"[^\w.+-]+", "_", name)[:LONGEST_NAME]
