"""Checks for leakage and confounding: ``python experiments/audit_cohort.py COHORT|NAME|FILE``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.errors import CohortError, UsageError, file_errors, nearest
from datasets.paths import as_path
from experiments.command_line import (
    USAGE_ERROR,
    CommandParser,
    path_argument,
    run_command,
)
from experiments.config import SUFFIXES, config_names, section_names

if TYPE_CHECKING:
    import numpy as np

    from datasets.audit import Finding
    from datasets.cohort import Cohort
    from datasets.transforms import OutOfDomain
    from experiments.config import Config


def make_parser() -> CommandParser:
    """The tool's own options."""
    parser = CommandParser(
        prog="audit_cohort.py",
        usage="%(prog)s COHORT|NAME|FILE [--accept FINDING] [--out DIR] [--section.key VALUE ...]",
        description="Look for what would make a model's figures look better than they are. Exits "
        "with 2 where a training would be refused.",
        epilog="Roles of columns are given as for a run: --data.labels '{case: 1, control: 0}' "
        "--data.group patient --data.numeric '[age, CRP]' --data.categorical '[sex]'.",
    )
    parser.add_argument(
        "source", metavar="COHORT|NAME|FILE", help="a cohort's folder, or a configuration"
    )
    parser.add_accept("name of a finding that does not refuse the training")
    parser.add_argument(
        "--out", type=path_argument, metavar="DIR", help="where to write audit.json"
    )
    return parser


def parse_arguments(arguments: Sequence[str]) -> tuple[argparse.Namespace, list[tuple[str, str]]]:
    """Split the command line into the tool's own options and configuration overrides."""
    return make_parser().split_overrides(arguments, section_names)


def configure(source: str, overrides: Sequence[tuple[str, str]]) -> Config:
    """The configuration of a cohort's folder, or that of a name or file."""
    from experiments.config import check_written, load_config

    if as_path(source).is_dir():
        values: dict[str, Any] = {"data": {"root": source}}
        return check_written(values, overrides)
    names = config_names()
    if source not in names and Path(source).suffix not in SUFFIXES:
        from datasets.cohort import SAMPLES_FILE

        cohorts = sorted(str(samples.parent) for samples in Path().glob(f"*/{SAMPLES_FILE}"))
        known = nearest(source, [*cohorts, *names])
        raise UsageError(f"'{source}' is neither a cohort's folder nor a configuration{known}")
    return load_config(source, overrides)


def find_all(config: Config, cohort: Cohort) -> list[Finding]:
    """Audit a cohort and the split that a run would draw; without one where none can be drawn."""
    from datasets.audit import Finding
    from experiments.analysis import audit_cohort
    from experiments.builders import split_cohort

    split, notes = None, []
    try:
        split = split_cohort(cohort, config.data, config.data.split.file)
    except CohortError as error:
        if config.data.split.file is not None:
            raise
        notes = [Finding("split", "note", 0, f"splits were not checked: {error}")]
    out_of_domain = _out_of_domain(config, cohort, split)
    return [*audit_cohort(config, cohort, split, None, out_of_domain), *notes]


def _out_of_domain(config: Config, cohort: Cohort, split: np.ndarray | None) -> list[OutOfDomain]:
    import numpy as np

    from datasets.transforms import find_out_of_domain
    from experiments.builders import configured_transforms

    if not cohort.has_spectra:
        return []
    chosen = range(len(cohort.sample_ids)) if split is None else np.flatnonzero(split == "train")
    rows = np.concatenate([cohort.scan_rows[sample] for sample in chosen])
    transforms = configured_transforms(config.data).fit(cohort.spectra, rows, cohort.axis)
    return find_out_of_domain(transforms, cohort.spectra, rows)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    return run_command(lambda: audit_all(*parse_arguments(words)))


def audit_all(options: argparse.Namespace, overrides: list[tuple[str, str]]) -> int:
    """Audit a cohort and print the findings; returns the exit code."""
    config = configure(options.source, overrides).accepting(options.accept)
    from experiments.analysis import audit_summary, audit_table, write_audit
    from experiments.builders import digest_memory, read_cohort

    cohort = read_cohort(config.data)
    cohort.fingerprint(digest_memory(config.data))  # also checks that large spectra are finite
    findings = find_all(config, cohort)
    names = [found.name for found in findings]
    for name in options.accept:
        if name not in names:
            raise UsageError(f"--accept: there is no finding '{name}'{nearest(name, names)}")
    if options.out is not None:
        with file_errors(f"--out: cannot write to {options.out}"):
            options.out.mkdir(parents=True, exist_ok=True)
            write_audit(findings, options.out)
    print(cohort.describe(), *audit_table(findings), audit_summary(findings), sep="\n")
    if any(found.stops for found in findings):
        print("a training is refused; --accept FINDING allows it")
        return USAGE_ERROR
    return 0


if __name__ == "__main__":
    sys.exit(main())
