"""Raw scans, their files and names, and the interface of readers."""

import importlib
import re
import shutil
import tarfile
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from datasets.errors import CohortError, one_line, refused

ARCHIVE = re.compile(r"\.(tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$", re.IGNORECASE)


@dataclass(frozen=True, eq=False)
class RawScan:
    """One scan on its own axis; CohortError where axis and intensities cannot be used.

    ``mz`` is the axis (m/z, wavenumber, ...), float64 [n], never falling; ``intensity`` float64
    [n], finite; ``where`` its name in an error line; ``centroid`` True for a peak list, False for a
    profile, None where unknown; ``columns`` are of samples.csv, ``details`` of scans.csv.
    """

    sample_id: str
    scan: str
    mz: np.ndarray
    intensity: np.ndarray
    where: str
    centroid: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    details: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Check the arrays, as float64."""
        for name in ("mz", "intensity"):
            values = np.asarray(getattr(self, name), dtype=np.float64)
            object.__setattr__(self, name, values)
        if self.mz.ndim != 1 or self.mz.shape != self.intensity.shape:
            raise CohortError(
                f"{self.where}: {self.mz.size} points of the axis, but {self.intensity.size} "
                "intensities"
            )
        for name, values in (("axis", self.mz), ("intensity", self.intensity)):
            finite = np.isfinite(values)
            if not finite.all():
                point = int(np.argmin(finite))
                raise CohortError(
                    f"{self.where}: {name} {values[point]} at point {point}; finite was expected"
                )
        falls = np.diff(self.mz) < 0
        if falls.any():
            point = int(np.argmax(falls)) + 1
            hint = "; it falls throughout: reverse axis and intensities" if falls.all() else ""
            raise CohortError(
                f"{self.where}: the axis falls, point {point} is {self.mz[point]:g} after "
                f"{self.mz[point - 1]:g}{hint}"
            )

    @property
    def points(self) -> int:
        """Number of points, n."""
        return len(self.mz)


@dataclass(frozen=True)
class SourceFile:
    """A raw file; ``name`` is its path from the source's own name on, with slashes."""

    path: Path
    name: str


def is_archive(source: Path) -> bool:
    """Whether a path is that of a tar archive."""
    return ARCHIVE.search(source.name) is not None and not source.is_dir()


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack a tar archive to a subfolder of ``folder``, made anew; CohortError where unsafe."""
    if not hasattr(tarfile, "data_filter"):
        raise CohortError(f"{archive}: this Python cannot unpack safely; unpack it yourself")
    shutil.rmtree(folder, ignore_errors=True)
    root = folder / ARCHIVE.sub("", archive.name)
    root.mkdir(parents=True)
    try:
        with tarfile.open(archive) as tar:
            tar.extractall(root, filter="data")
    except Exception as error:
        # zlib.error and lzma.LZMAError have no other common ancestor; decompressors' OSErrors have
        # no number, that of a full disk has one.
        damaged = isinstance(error, tarfile.TarError | EOFError | OSError)
        damaged = damaged or type(error).__module__ in ("zlib", "lzma", "_lzma")
        if not damaged or getattr(error, "errno", None) is not None:
            raise
        raise CohortError(f"{archive} cannot be unpacked: {one_line(error)}") from error
    return root


def list_files(
    root: Path, can_read: Callable[[str], bool], expected: str, pattern: str | None = None
) -> list[SourceFile]:
    """The raw files of a source, in the order of their paths; hidden files are skipped.

    ``root`` is a folder, searched recursively, or one file, taken as it is; names match the shell
    ``pattern`` (``*/1SLin/fid``); the CohortError for none names the files ``expected``.
    """
    if root.is_file():
        files = [SourceFile(root, f"{root.resolve().parent.name}/{root.name}")]
    else:
        top = root.resolve().name
        found = sorted(
            path.relative_to(root).parts
            for path in root.rglob("*")
            if path.is_file() and not path.name.startswith(".")
        )
        files = [
            SourceFile(root.joinpath(*parts), "/".join((top, *parts)))
            for parts in found
            if can_read(parts[-1])
        ]
        if not files:
            kinds = Counter(Path(parts[-1]).suffix or parts[-1] for parts in found)
            held = ", ".join(f"{kind} {count}" for kind, count in kinds.most_common(5))
            raise CohortError(f"no {expected} in {root}; it holds {held or 'no file'}")
    chosen = [file for file in files if pattern is None or fnmatchcase(file.name, pattern)]
    if not chosen:
        raise CohortError(
            f"none of {len(files)} files matches {pattern!r}; the first is {files[0].name!r}"
        )
    return chosen


def require_package(module: str, what: str) -> Any:
    """Import a module of the extra `import`, which ``what`` needs; CohortError without it."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = (error.name or module).partition(".")[0]
        raise CohortError(
            f"{what} needs the package {package}, which is not installed; it comes with the extra "
            "`import`: pip install 'scanfire[import]'"
        ) from error


class RawReader(ABC):
    """Reads one format, a scan at a time; subclasses are dataclasses of the format's settings.

    A reader outside of this package derives from it and has :meth:`can_read` and :meth:`read`.
    ``expected`` are the files it reads, for error lines; ``suffixes`` their endings; units are
    empty where the format does not fix them. ``names_samples_itself`` tells that files, not paths,
    name their samples; ``one_scan_a_file`` that a file is one scan. ``modules`` are what it imports
    of the extra `import`; ``packages`` those whose versions belong to the provenance.
    """

    expected: ClassVar[str] = "file of this format"
    suffixes: tuple[str, ...] = ()
    axis_unit: ClassVar[str] = ""
    intensity_unit: ClassVar[str] = ""
    names_samples_itself: ClassVar[bool] = False
    one_scan_a_file: ClassVar[bool] = False
    modules: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def can_read(self, name: str) -> bool:
        """Whether a file of this name is one to read."""
        return name.lower().endswith(self.suffixes)

    def parts(self, path: Path) -> list[Path]:
        """The file and those that belong to it; CohortError where one is missing."""
        return [path]

    @abstractmethod
    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read a file's scans, in their order, the same at each call; CohortError where damaged."""


@dataclass(frozen=True)
class Naming:
    """Regular expressions that are searched for in a file's path; CohortError where one is none.

    A name is the matched groups joined by "_", without groups the whole match: the sample's (None
    takes the reader's), or in the columns `group` and `label`.
    """

    sample: str | None = None
    group: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        """Check the patterns."""
        for option, pattern in self.options().items():
            with refused(f"{option} {pattern!r} is no regular expression", re.error):
                re.compile(pattern)

    def options(self) -> dict[str, str]:
        """The patterns that are given, by option."""
        given = {"sample": self.sample, "group": self.group, "label": self.label}
        return {f"--{name}-from": pattern for name, pattern in given.items() if pattern is not None}

    def apply(self, scan: RawScan, file_name: str, one_scan_a_file: bool) -> RawScan:
        """Rename a scan; it is named by its file too, of which a sample may have several."""
        found = {
            option.removeprefix("--").removesuffix("-from"): _find_name(pattern, file_name, option)
            for option, pattern in sorted(self.options().items())
        }
        if "sample" in found:
            name = file_name if one_scan_a_file else f"{file_name}#{scan.scan}"
            scan = replace(scan, sample_id=found.pop("sample"), scan=name)
        return replace(scan, columns={**scan.columns, **found}) if found else scan


def _find_name(pattern: str, file_name: str, option: str) -> str:
    """The name that a pattern finds in a file's name; CohortError for none or an empty one."""
    match = re.search(pattern, file_name)
    if match is None:
        raise CohortError(f"{option} {pattern!r} does not match {file_name!r}")
    name = "_".join(part for part in match.groups() if part) or match[0]
    if not name:
        raise CohortError(f"{option} {pattern!r} finds an empty name in {file_name!r}")
    return name
