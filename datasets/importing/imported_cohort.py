"""The tables of an imported cohort, and its cohort.yaml."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from datasets.cohort import ROLES_FILE, SAMPLE_ID, SAMPLES_FILE, SCAN, SCANS_FILE, file_sha256
from datasets.importing.import_columns import GROUP, Cells, CovariateTable, ImportRoles, Joined
from datasets.importing.scan_intake import TIC, ScanRecord

LEFT_OUT_FILE = "left_out.csv"
SOURCES_FILE = "sources.csv"


@dataclass
class ScanTally:
    """Counts of the scans.

    Attributes:
        scans: Scans that are kept.
        samples: Samples of which one is kept, in order.
        left_out: Reason -> number of scans.
        zero_scans: Kept scans that are 0 on the whole axis.
        empty_bins: Points of the axis without a scan's point, summed over the kept scans.
        low: Lowest point of all scans, None where there is none.
        high: Highest point.
    """

    scans: int = 0
    samples: dict[str, None] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    zero_scans: int = 0
    empty_bins: int = 0
    low: float | None = None
    high: float | None = None

    def count(self, record: ScanRecord) -> None:
        """Count a scan."""
        if record.low is not None and record.high is not None:
            self.low = record.low if self.low is None else min(self.low, record.low)
            self.high = record.high if self.high is None else max(self.high, record.high)
        if record.left_out:
            self.left_out[record.left_out] += 1
            return
        self.scans += 1
        self.samples[record.sample_id] = None
        self.empty_bins += record.empty_bins
        self.zero_scans += record.zero


def decide(records: Iterable[ScanRecord], outlying: np.ndarray) -> Iterator[ScanRecord]:
    """The records, those marked in ``outlying``, bool [kept rows], left out for their TIC."""
    verdicts = iter(outlying)
    for record in records:
        if record.left_out is None and next(verdicts):
            yield replace(record, left_out=TIC)
        else:
            yield record


def write_scans(folder: Path, records: Iterable[ScanRecord]) -> ScanTally:
    """Write scans.csv, and left_out.csv of the scans that are left out."""
    tally = ScanTally()
    with (
        (folder / SCANS_FILE).open("w", encoding="utf-8", newline="") as scans_file,
        (folder / LEFT_OUT_FILE).open("w", encoding="utf-8", newline="") as left_out_file,
    ):
        scans, left_out = _writer(scans_file), _writer(left_out_file)
        left_out.writerow([SAMPLE_ID, SCAN, "source", "reason"])
        details: list[str] | None = None
        for record in records:
            if details is None:
                details = list(record.details)
                scans.writerow([SAMPLE_ID, SCAN, "source", "tic", *details])
            tally.count(record)
            name = [record.sample_id, record.scan, record.source]
            if record.left_out:
                left_out.writerow([*name, record.left_out])
            else:
                more = [record.details.get(detail, "") for detail in details]
                scans.writerow([*name, f"{record.tic:.9g}", *more])
    return tally


def join_samples(
    samples: Mapping[str, Cells], roles: ImportRoles, covariates: CovariateTable | None
) -> Joined:
    """Join the covariates; without a group column each sample is its own group."""
    joined = covariates.join(samples) if covariates else Joined(dict(samples), [], [])
    named = any(GROUP in cells for cells in joined.samples.values())
    if roles.group is not None or named:
        return joined
    grouped = {name: {GROUP: name, **cells} for name, cells in joined.samples.items()}
    return replace(joined, samples=grouped)


def write_samples(folder: Path, samples: Mapping[str, Cells]) -> list[str]:
    """Write samples.csv; returns its columns, without `sample_id`."""
    columns = list(dict.fromkeys(name for cells in samples.values() for name in cells))
    with (folder / SAMPLES_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = _writer(file)
        writer.writerow([SAMPLE_ID, *columns])
        for sample, cells in samples.items():
            writer.writerow([sample, *(cells.get(name, "") for name in columns)])
    return columns


def write_sources(folder: Path, sources: Iterable[Mapping[str, Any]]) -> int:
    """Write sources.csv, the raw files with their sizes and checksums; returns their number."""
    number = 0
    with (folder / SOURCES_FILE).open("w", encoding="utf-8", newline="") as file:
        writer = _writer(file)
        writer.writerow(["file", "bytes", "sha256"])
        for source in sources:
            writer.writerow([source["name"], source["bytes"], source["sha256"]])
            number += 1
    return number


def write_description(folder: Path, description: Mapping[str, Any]) -> None:
    """Write cohort.yaml, with the checksums of all files beside it."""
    checksums = {path.name: file_sha256(path) for path in sorted(folder.iterdir())}
    text = yaml.safe_dump(
        {**description, "checksums": checksums}, sort_keys=False, allow_unicode=True, width=100
    )
    (folder / ROLES_FILE).write_text(text, encoding="utf-8")


def idle_columns(columns: Sequence[str], roles: Mapping[str, Any]) -> list[str]:
    """Columns without a role."""
    used = {name for role in roles.values() for name in ([role] if isinstance(role, str) else role)}
    return [name for name in columns if name not in used]


def _writer(file: Any) -> Any:
    return csv.writer(file, lineterminator="\n")
