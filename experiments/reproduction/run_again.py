"""A packaged run, made again: its checksums, what is another here, its figures beside the new."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from datasets.errors import UsageError, one_line
from experiments.builders import digest_memory, read_cohort
from experiments.command_line import as_typed
from experiments.config import Config, load_config
from experiments.launch import describe_environment
from experiments.reproduction.differences import TABLES, Difference, compare_folders
from experiments.run_files import (
    RunFile,
    data_version,
    new_run_dir,
    read_package,
    read_version,
    require_place,
    unpack,
)
from experiments.runs import Experiment

REPRODUCED, DIFFERS = 0, 1
# Of probabilities; of values beyond 1 this share.
TOLERANCE = 0.01
# What decides the last digits of a run on a CPU, as environment.json calls it.
DECISIVE = ("commit", "python", "processor", "cpu_capability", "cuda", "processes")


def reproduce(path: Path, root: Path | None = None, runs_dir: Path = Path("runs")) -> int:
    """Make a packaged run again, and print what differs; returns the exit code.

    0: identical or, where versions or hardware are others, within the tolerance. 1: it differs.
    UsageError where it cannot be made again. ``root`` is the cohort's folder.
    """
    files = read_package(path)
    require_place(runs_dir)
    print(f"package  {path}: {len(files)} files, all as their checksums say", flush=True)
    packaged = new_run_dir(runs_dir, f"{path.stem}-package")
    try:
        unpack(path, packaged)
        config = packed_config(packaged, path.stem, root, runs_dir)
        environment = json.loads((packaged / RunFile.ENVIRONMENT).read_text("utf-8"))
        _check_cohort(packaged, config)
    except (ValueError, OSError) as error:
        shutil.rmtree(packaged)
        if isinstance(error, UsageError):
            raise
        raise UsageError(f"{path}: {RunFile.ENVIRONMENT}: {one_line(error)}") from error
    others = list(other_here(environment, describe_environment({})))
    for line in others:
        print(f"differs  {line}", flush=True)
    with as_many_threads(environment):
        experiment = Experiment(config)
        try:
            experiment.run()
        except UsageError:
            shutil.rmtree(packaged)
            raise
    if experiment.exit_code is not None:
        print("interrupted: nothing was compared", flush=True)
        return experiment.exit_code
    before = read_version(packaged)
    if before is not None and experiment.data.version.split != before.split:
        others.append("split")
        print("differs  the split")
    found = compare_folders(packaged, experiment.run_dir)
    code, verdict = judge(found, bool(others))
    print(*(difference.told() for difference in found), verdict, sep="\n")
    print(f"next  {as_typed('compare.py')} {shlex.join(map(str, (packaged, experiment.run_dir)))}")
    return code


def packed_config(packaged: Path, name: str, root: Path | None, runs_dir: Path) -> Config:
    """The packaged run's configuration, of the cohort in ``root``, which the package only names."""
    source = str(packaged / RunFile.CONFIG)
    written = load_config(source).data
    if written.root is not None and root is None:
        raise UsageError(
            f"the package names only the last part of its cohort's folder, '{written.root.name}': "
            "give the folder, --data.root DIR"
        )
    if written.root is None and root is not None:
        raise UsageError("--data.root: the run's cohort is simulated, and made again; leave it out")
    own = [("exp_name", f"{name}-reproduced"), ("runs_dir", str(runs_dir))]
    if written.cache_dir is not None:
        own.append(("data.cache_dir", "null"))
    if written.split.file is not None:
        own.append(("data.split.file", str((packaged / RunFile.SPLITS).absolute())))
    if root is not None:
        own.append(("data.root", str(root)))
    return load_config(source, own)


def _check_cohort(packaged: Path, config: Config) -> None:
    """Refuse a cohort whose files are not those of the run."""
    before = read_version(packaged)
    if before is None:
        raise UsageError(f"{RunFile.ENVIRONMENT} of the package does not say which data it is of")
    cohort = read_cohort(config.data)
    files = cohort.fingerprint(digest_memory(config.data))
    differing = data_version(config.data, cohort, files).differences(before, prepared=False)
    if differing:
        raise UsageError(f"{cohort.root} is not the run's cohort: {differing}; give --data.root")


@contextmanager
def as_many_threads(environment: Mapping[str, Any]) -> Iterator[None]:
    """Compute with as many threads as the run did: sums of parts are in another order else."""
    former = torch.get_num_threads()
    torch.set_num_threads(int(environment.get("threads") or former))
    try:
        yield
    finally:
        torch.set_num_threads(former)


def other_here(before: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[str]:
    """A line on each version, and on all else that decides the last digits, that is another.

    Example:
        >>> list(other_here({"packages": {"numpy": "2.3"}}, {"packages": {"numpy": "2.4"}}))
        ['numpy 2.3, here 2.4']
    """
    was, here = before.get("packages") or {}, now.get("packages") or {}
    for name in dict.fromkeys([*was, *here]):
        if was.get(name) != here.get(name):
            yield f"{name} {was.get(name)}, here {here.get(name)}"
    for key in DECISIVE:
        # Packages of earlier versions do not name all of them.
        if key in before and before[key] != now.get(key):
            yield f"{key.replace('_', ' ')} {before[key]}, here {now.get(key)}"
    for which, of in (("the run's code had", before), ("this code has", now)):
        if of.get("dirty"):
            yield f"{which} uncommitted changes"
    if now.get("cuda") is not None:
        yield "a GPU, on which sums are in no fixed order"


def judge(found: Sequence[Difference], others: bool) -> tuple[int, str]:
    """The exit code and a sentence; ``others``: versions or hardware are not the run's.

    Then predictions decide, within the tolerance: metrics of few samples jump with one of them.
    """
    if all(difference.identical for difference in found):
        return REPRODUCED, "reproduced: identical"
    largest = max(found, key=lambda difference: difference.largest)
    if not others:
        told = (
            f"differs by up to {largest.largest:.2g}; with these versions nothing was expected to"
        )
        return DIFFERS, f"not reproduced: {largest.file} {told}"
    tables = [difference for difference in found if difference.file in TABLES]
    apart = max(difference.largest for difference in tables)
    told = f"predictions differ by up to {apart:.2g}, {TOLERANCE} is tolerated with other versions"
    if apart <= TOLERANCE and not any(difference.other for difference in tables):
        return REPRODUCED, f"reproduced within the tolerance: {told}"
    return DIFFERS, f"not reproduced: {told}"
