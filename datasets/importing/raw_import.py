"""Import of raw instrument files into a cohort's folder, a scan at a time."""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

import datasets.importing.imported_cohort as tables
from datasets.cohort import MISSING_TEXT, file_sha256, in_order, require_file
from datasets.errors import CohortError, refused
from datasets.importing.choices import TIC
from datasets.importing.cohort_writer import CHECKPOINT_SECONDS, CohortWriter, refuse_existing
from datasets.importing.imported_cohort import CovariateTable, ImportRoles, Joined, ScanRecord
from datasets.importing.scan_intake import ScanFilter, ScanIntake
from datasets.readers import (
    Naming,
    RawReader,
    RawScan,
    SourceFile,
    is_archive,
    list_files,
    require_package,
    unpack,
)

# Raise it whenever the same files would give another cohort.
IMPORT_VERSION = 1
UNPACKED_FOLDER = "unpacked"
# Kinds of entries in the writer's log.
FIXED, SCAN, FILE = "fixed", "scan", "file"

# Called after each scan with the files done, all files, and the scans done.
Watch = Callable[[int, int, int], None]


@dataclass(frozen=True)
class ImportSettings:
    """What is imported, and how.

    ``source`` is a file, a folder, or a tar archive of a folder; ``aggregate`` None chooses by the
    kind of scan; ``match`` is a shell pattern of files' names; ``about`` further content of
    cohort.yaml (name, licence, units), ``covariates_about`` the provenance of that table.
    """

    source: Path
    format: str
    reader: RawReader
    axis: str
    aggregate: str | None = None
    match: str | None = None
    naming: Naming = field(default_factory=Naming)
    scan_filter: ScanFilter = field(default_factory=ScanFilter)
    roles: ImportRoles = field(default_factory=ImportRoles)
    covariates: CovariateTable | None = None
    about: Mapping[str, Any] = field(default_factory=dict)
    covariates_about: Mapping[str, Any] | None = None

    def decisive(self) -> dict[str, Any]:
        """What determines the spectra and their names, as plain types."""
        return {
            "format": self.format,
            "axis": self.axis,
            "aggregate": self.aggregate,
            "match": self.match,
            "names": self.naming.options(),
            "reader": asdict(self.reader),
            "filter": self.scan_filter.plain(),
        }


@dataclass(frozen=True)
class ImportSummary:
    """Result of an import.

    ``axis`` is float64 [L]; ``aggregate`` how scans were brought onto it, None on their own axis;
    ``scans`` has a :class:`ScanRecord` a row; ``samples_left_out`` have no scan left; ``idle`` are
    columns without a role; ``labels`` the different ones, without missing ones.
    """

    out: Path
    axis: np.ndarray
    aggregate: str | None
    files: int
    scans: pd.DataFrame
    samples_left_out: list[str]
    joined: Joined
    roles: dict[str, Any]
    idle: list[str]
    own_groups: bool
    labels: list[str]


class RawImport:
    r"""Imports raw files into a folder that is complete or absent.

    Memory holds one scan (of Parquet a row group), and the names of all. The same import continues
    an interrupted one from ``OUT.partial``, losing at most ``checkpoint_seconds`` of work; an
    import that refuses its source leaves nothing. CohortError where the settings do not fit the
    source or each other, a package is missing, or ``out`` exists.
    """

    def __init__(
        self, settings: ImportSettings, out: Path, checkpoint_seconds: float = CHECKPOINT_SECONDS
    ) -> None:
        self.settings = settings
        self._intake = ScanIntake(
            settings.axis,
            settings.aggregate,
            settings.naming,
            settings.scan_filter,
            settings.roles,
            settings.covariates,
        )
        if settings.naming.sample is not None and settings.reader.names_samples_itself:
            raise CohortError(
                f"--sample-from reads names from paths, but {settings.format} files name their "
                "samples themselves"
            )
        for module in settings.reader.modules:
            require_package(module, settings.format)
        refuse_existing(out)
        source = require_file(settings.source, "file or folder", Path.exists)
        self._archive = source if is_archive(source) else None
        self._files = [] if self._archive else self._list(source)
        parts = [(source.name, source)] if self._archive else self._parts(self._files)
        identity = {**settings.decisive(), "version": IMPORT_VERSION, "source": _extent(parts)}
        self.writer = CohortWriter(
            out,
            {name: json.dumps(value, sort_keys=True) for name, value in identity.items()},
            checkpoint_seconds,
        )

    def run(self, watch: Watch = lambda done, files, scans: None) -> ImportSummary:
        """Read, write and finish; ``watch`` is called after each scan.

        A CohortError leaves nothing; after an OSError (a full disk) the same import continues.
        """
        try:
            if self._archive:
                root = unpack(self._archive, self.writer.partial / UNPACKED_FOLDER)
                self._files = self._list(root)
            for fixed in self._entries(FIXED):
                self._intake.fix(fixed)
            for values in self._entries(SCAN):
                self._intake.remember(ScanRecord(**values))
            self._read(watch)
            return self._finish()
        except CohortError:
            self.writer.discard()
            raise
        finally:
            self.writer.close()

    def _list(self, root: Path) -> list[SourceFile]:
        reader = self.settings.reader
        return list_files(root, reader.can_read, reader.expected, self.settings.match)

    def _parts(self, files: Iterable[SourceFile]) -> list[tuple[str, Path]]:
        return [
            (file.name.removesuffix(file.path.name) + part.name, part)
            for file in files
            for part in self.settings.reader.parts(file.path)
        ]

    def _entries(self, kind: str) -> Iterator[dict[str, Any]]:
        return (entry[kind] for entry in self.writer.entries() if kind in entry)

    def _read(self, watch: Watch) -> None:
        writer, intake, reader = self.writer, self._intake, self.settings.reader
        begun, skip = writer.progress.files, writer.progress.scans
        for number, file in enumerate(self._files[begun:], start=begun):
            for raw in islice(_scans(reader, file), skip, None):
                first = not intake.scans
                record, spectrum = intake.take(raw, file.name, reader.one_scan_a_file)
                if first:
                    writer.note({FIXED: intake.fixed()})
                if spectrum is not None:
                    writer.append(spectrum)
                writer.note({SCAN: asdict(record)})
                writer.scan_done()
                watch(number, len(self._files), intake.scans)
            skip = 0
            for name, part in self._parts([file]):
                entry = {"name": name, "bytes": part.stat().st_size, "sha256": file_sha256(part)}
                writer.note({FILE: entry})
            writer.file_done()

    def _finish(self) -> ImportSummary:
        writer, intake, settings = self.writer, self._intake, self.settings
        scans = pd.DataFrame(self._entries(SCAN))
        kept = scans["left_out"].isna().to_numpy(copy=True)
        outlying = settings.scan_filter.outlying(scans["tic"][kept].to_numpy())
        if outlying.all():
            raise CohortError(f"the filter leaves none of {intake.scans} scans")
        assert intake.axis.points is not None
        writer.finish(intake.axis.points, ~outlying)
        folder = writer.finished
        kept[kept] = ~outlying
        scans["left_out"] = scans["left_out"].where(kept | scans["left_out"].notna(), TIC)
        tables.write_scans(folder, scans)
        names = scans["sample_id"][kept].unique()
        samples = {name: intake.index.samples[name] for name in names}
        joined = tables.join_samples(samples, settings.roles, settings.covariates)
        columns = tables.write_samples(folder, joined.samples)
        roles = settings.roles.plain(columns)
        labels = {cells.get(roles.get("label", ""), "") for cells in joined.samples.values()}
        files = tables.write_sources(folder, self._entries(FILE))
        provenance = self._provenance(files, scans["left_out"])
        tables.write_description(
            folder, {**settings.about, "roles": roles, "provenance": provenance}
        )
        writer.publish()
        return ImportSummary(
            out=writer.out,
            axis=intake.axis.points,
            aggregate=intake.aggregate,
            files=len(self._files),
            scans=scans,
            samples_left_out=[name for name in intake.index.samples if name not in samples],
            joined=joined,
            roles=roles,
            idle=tables.idle_columns(columns, roles),
            own_groups=all(
                cells.get(roles["group"]) == name for name, cells in joined.samples.items()
            ),
            labels=in_order(sorted(labels - MISSING_TEXT)),
        )

    def _provenance(self, files: int, left_out: pd.Series) -> dict[str, Any]:
        settings = self.settings
        source: dict[str, Any] = {"name": settings.source.resolve().name, "files": files}
        if self._archive:
            source["sha256"] = file_sha256(self._archive)
        made = {**settings.decisive(), "aggregate": self._intake.aggregate}
        told = {name: value for name, value in made.items() if value not in (None, {})}
        covariates = settings.covariates_about
        return {
            "source": source,
            **told,
            **({"covariates": dict(covariates)} if covariates else {}),
            "scans": {
                "kept": int(left_out.isna().sum()),
                "left_out": left_out.value_counts().sort_index().to_dict(),
            },
            "made_with": {
                name: _version(name) for name in ("scanfire", "numpy", *settings.reader.packages)
            },
        }


def _scans(reader: RawReader, file: SourceFile) -> Iterator[RawScan]:
    """A file's scans; an error of reading is told from one of writing."""
    empty = True
    with refused(f"{file.name} cannot be read", OSError):
        for scan in reader.read(file):
            empty = False
            yield scan
    if empty:
        raise CohortError(f"{file.name} holds no scan")


def _extent(parts: Iterable[tuple[str, Path]]) -> str:
    digest, number, size = hashlib.sha256(), 0, 0
    for name, path in parts:
        stat = path.stat()
        digest.update(f"{name} {stat.st_size} {stat.st_mtime_ns}\n".encode())
        number, size = number + 1, size + stat.st_size
    return f"{number} files of {size} bytes ({digest.hexdigest()[:12]})"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
