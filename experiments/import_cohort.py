"""From instrument files to a cohort's folder: ``python experiments/import_cohort.py --help``."""

from __future__ import annotations

import argparse
import dataclasses
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if __name__ == "__main__":
    # As in run.py: the project's own packages first, the user's modules last.
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    sys.path.append(str(Path.cwd()))

from datasets.cohort import SAMPLE_ID
from datasets.errors import UsageError
from datasets.importing import AGGREGATES, REASONS, TIC_SPREAD
from datasets.readers import READERS
from experiments.command_line import CommandParser, as_typed, path_argument, run_command

if TYPE_CHECKING:
    from datasets.importing import ImportSettings, ImportSummary
    from datasets.readers import RawReader

# On a terminal, how often the line of progress is drawn anew.
REDRAW_SECONDS = 0.2
# Longer lists of names are cut.
MAX_NAMES = 20
# Options that only some readers know, by the reader's field.
READER_OPTIONS = {"ms_level": "--ms-level", "sample_column": "--sample-column"}


def make_parser() -> CommandParser:
    """The command line."""
    parser = CommandParser(
        prog="import_cohort.py",
        description="Bring raw instrument files onto a common axis and write them as a cohort's "
        "folder. An interrupted import resumes when the same command is run again.",
    )
    parser.add_argument(
        "source", type=path_argument, metavar="SOURCE", help="a file, a folder, or a tar archive"
    )
    parser.add_argument(
        "out", type=path_argument, metavar="OUT", help="the cohort's folder; never overwritten"
    )
    parser.add_argument(
        "--format",
        required=True,
        metavar="FORMAT",
        help=f"{', '.join(READERS)}, or the dotted path of a reader of your own",
    )
    parser.add_argument(
        "--axis",
        required=True,
        metavar="START:STOP:STEP",
        help="points from START on, before STOP, each a bin around it; a STEP such as 200ppm "
        "grows with the position; 'own' keeps the axis that all scans share",
    )
    parser.add_argument(
        "--aggregate",
        metavar="HOW",
        help=f"{', '.join(AGGREGATES)}; by default the mean of profiles, the sum of peak lists; "
        "a bin without a point is 0",
    )
    parser.add_argument("--match", metavar="PATTERN", help="only files like this: '*/1SLin/fid'")
    parser.add_argument("--ms-level", type=int, metavar="N", help="mzML: which spectra (1)")
    parser.add_argument(
        "--sample-column", metavar="COLUMN", help=f"tables: samples' names ({SAMPLE_ID})"
    )
    names = parser.add_argument_group("names from paths", "regular expressions; groups are joined")
    names.add_argument("--sample-from", metavar="REGEX", help="the sample a file belongs to")
    names.add_argument("--group-from", metavar="REGEX", help="its group")
    names.add_argument("--label-from", metavar="REGEX", help="its label")
    roles = parser.add_argument_group("columns")
    roles.add_argument(
        "--covariates", type=path_argument, metavar="FILE", help="table to join: CSV, Parquet, XLSX"
    )
    roles.add_argument("--covariate-id", default=SAMPLE_ID, metavar="COLUMN", help="its names")
    roles.add_argument("--label", metavar="COLUMN", help="what is to be learned")
    roles.add_argument("--group", metavar="COLUMN", help="what a split keeps together (patient)")
    roles.add_argument("--numeric", nargs="+", default=[], metavar="COLUMN", help="covariates")
    roles.add_argument("--categorical", nargs="+", default=[], metavar="COLUMN", help="covariates")
    quality = parser.add_argument_group("scans to leave out; all are counted")
    quality.add_argument("--filter", nargs="+", default=[], metavar="WHY", help=", ".join(REASONS))
    quality.add_argument("--ceiling", type=float, metavar="X", help="saturated: from X on")
    quality.add_argument(
        "--tic-spread", type=float, default=TIC_SPREAD, metavar="X", help=f"tic: z ({TIC_SPREAD})"
    )
    about = parser.add_argument_group("written into cohort.yaml")
    about.add_argument("--licence", metavar="TEXT", help="of the data")
    about.add_argument("--axis-unit", metavar="UNIT", help="m/z where the format fixes it")
    about.add_argument("--intensity-unit", metavar="UNIT", help="counts where the format does")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""

    def work() -> int:
        options = make_parser().parse_args(arguments)
        try:
            return import_all(options)
        except OSError as error:
            place = error.filename or options.out
            reason = error.strerror or error
            raise UsageError(f"{place}: {reason}; the same command resumes the import") from error

    return run_command(work, "interrupted; the same command resumes the import")


def import_all(options: argparse.Namespace) -> int:
    """Import, or resume an interrupted import, and print a summary."""
    # Not before: --help does without.
    from tqdm import tqdm

    from datasets.importing import RawImport

    importing = RawImport(settings_from(options), options.out)
    if importing.writer.continues:
        print("resuming the interrupted import", flush=True)
    with tqdm(unit=" scans", disable=None, leave=False, mininterval=REDRAW_SECONDS) as bar:

        def watch(done: int, files: int, scans: int) -> None:
            bar.set_postfix_str(f"file {done + 1} of {files}", refresh=False)
            bar.update(scans - bar.n)

        summary = importing.run(watch)
    for line in describe(summary, options):
        print(line)
    return 0


def settings_from(options: argparse.Namespace) -> ImportSettings:
    """The settings of the command line."""
    from datasets.cohort import file_sha256
    from datasets.importing import CovariateTable, ImportRoles, ImportSettings, ScanFilter
    from datasets.readers import Naming

    reader = make_reader(options)
    covariates, covariates_about = None, None
    if options.covariates is not None:
        path = options.covariates
        covariates = CovariateTable.read(path, options.covariate_id)
        covariates_about = {"name": path.name, "sha256": file_sha256(path)}
    elif options.covariate_id != SAMPLE_ID:
        raise UsageError("--covariate-id names a column of --covariates, which is not given")
    units = {"axis": options.axis_unit or reader.axis_unit}
    units["spectra"] = options.intensity_unit or reader.intensity_unit
    known_units = {name: unit for name, unit in units.items() if unit}
    about = {"name": options.out.name, "licence": options.licence, "units": known_units}
    columns = options.label, options.group, tuple(options.numeric), tuple(options.categorical)
    return ImportSettings(
        source=options.source,
        format=options.format,
        reader=reader,
        axis=options.axis,
        aggregate=options.aggregate,
        match=options.match,
        naming=Naming(options.sample_from, options.group_from, options.label_from),
        scan_filter=ScanFilter(tuple(options.filter), options.ceiling, options.tic_spread),
        roles=ImportRoles(*columns),
        covariates=covariates,
        covariates_about=covariates_about,
        about={name: value for name, value in about.items() if value},
    )


def make_reader(options: argparse.Namespace) -> RawReader:
    """The format's reader, with its options."""
    from experiments.config import find_named

    make: Any = find_named(options.format, READERS, "--format")
    if not all(hasattr(make, name) for name in ("__dataclass_fields__", "can_read", "read")):
        raise UsageError(
            f"--format {options.format}: no reader; expected a dataclass that derives from "
            "datasets.readers.RawReader"
        )
    known = {field.name for field in dataclasses.fields(make)}
    given = {name: getattr(options, name) for name in READER_OPTIONS}
    chosen = {name: value for name, value in given.items() if value is not None}
    for name in chosen:
        if name not in known:
            raise UsageError(f"{READER_OPTIONS[name]} means nothing to the format {options.format}")
    reader: RawReader = make(**chosen)
    return reader


def describe(summary: ImportSummary, options: argparse.Namespace) -> list[str]:
    """Summary of the import, and the next steps, in plain lines."""
    from datasets.cohort import spelled_alike

    axis, joined = summary.axis, summary.joined
    reasons = summary.scans["left_out"]
    kept, left_out = summary.scans[reasons.isna()], int(reasons.notna().sum())
    counts = reasons.value_counts().sort_index()
    why = ", ".join(f"{reason} {count}" for reason, count in counts.items())
    ends = summary.scans[["low", "high"]].dropna()
    extent = f"{ends['low'].min():g} to {ends['high'].max():g}" if len(ends) else "nothing"
    lines = [
        f"cohort {summary.out.name}: {len(joined.samples)} samples, {len(kept)} scans of "
        f"{len(axis)} points ({axis[0]:g} to {axis[-1]:g}), from {summary.files} files",
        f"aggregation on the axis: {summary.aggregate or 'none, it is their own axis'}; they cover "
        f"{extent}; {kept['empty_bins'].mean() / len(axis):.1%} of the bins are empty",
        f"left out: {left_out} scans{f' ({why})' if why else ''}",
    ]
    if summary.samples_left_out:
        lines.append(f"samples without a scan left, left out: {_names(summary.samples_left_out)}")
    if kept["zero"].any():
        lines.append(
            f"{kept['zero'].sum()} scans are 0 on the whole axis; --filter empty leaves them out"
        )
    if options.covariates is not None:
        samples = len(joined.samples)
        with_row = samples - len(joined.without_row)
        lines.append(f"samples with a row of covariates: {with_row} of {samples}")
        lines.append(f"samples without a row of covariates: {_names(joined.without_row)}")
        lines.append(f"rows of covariates without a sample: {_names(joined.without_sample)}")
        alike = spelled_alike(joined.without_row, joined.without_sample)
        if alike is not None:
            lines.append(
                f"sample {alike[0]!r} and row {alike[1]!r} differ by case, blanks or zeros only: "
                "if they are one, spell them alike"
            )
    return [*lines, *_next_steps(summary)]


def _next_steps(summary: ImportSummary) -> list[str]:
    from datasets.cohort import labels_text, negative_first

    roles = summary.roles
    columns = {r: v if isinstance(v, str) else ", ".join(v) for r, v in roles.items() if v}
    told = "; ".join(f"{role} {names}" for role, names in columns.items())
    idle = f"; columns without a role: {', '.join(summary.idle)}" if summary.idle else ""
    lines = [f"roles: {told}{idle}"]
    if summary.own_groups:
        lines.append(
            "each sample is a group of its own; if several are of one patient, give --group or "
            "--group-from, as a split must not separate them"
        )
    if "label" not in roles:
        out = shlex.quote(str(summary.out))
        lines.append("no label yet: the next command looks for one; --label COLUMN names it")
        lines.append(f"to predict these samples: {as_typed('predict.py')} RUN {out} --out FILE")
        return [*lines, f"next  {as_typed('new_config.py')} {out}"]
    config = "tft_baseline" if roles["numeric"] or roles["categorical"] else "spectra_only"
    command = [config, "--data.root", str(summary.out)]
    if len(summary.labels) == 2 and negative_first(summary.labels) is None:
        command += ["--data.labels", labels_text(summary.labels)]
        lines.append("the positive class is the label with the number 1: change it below if not so")
    return [*lines, f"next  {as_typed('run.py')} {shlex.join(command)}"]


def _names(names: Sequence[str]) -> str:
    if not names:
        return "none"
    more = f", and {len(names) - MAX_NAMES} more" if len(names) > MAX_NAMES else ""
    return f"{len(names)} ({', '.join(names[:MAX_NAMES])}{more})"


if __name__ == "__main__":
    sys.exit(main())
