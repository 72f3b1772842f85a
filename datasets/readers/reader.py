"""What every reader of raw files is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, Protocol

from datasets.readers.scan import RawScan
from datasets.readers.source_files import SourceFile


class RawReader(Protocol):
    """Reads one format, a scan at a time; a dataclass whose fields are its settings.

    A reader outside of this package derives from it and has :meth:`can_read` and :meth:`read`.

    Attributes:
        expected: Which files it reads, for error lines.
        axis_unit: Of the axis, where the format fixes it; else empty.
        intensity_unit: Of the intensities, likewise.
        names_samples_itself: Whether the files name their samples, not the paths.
        one_scan_a_file: Whether a file is one scan.
        modules: What it imports, by dotted name, of the extra `import`.
        packages: Whose versions belong to the provenance.
    """

    expected: ClassVar[str] = "file of this format"
    axis_unit: ClassVar[str] = ""
    intensity_unit: ClassVar[str] = ""
    names_samples_itself: ClassVar[bool] = False
    one_scan_a_file: ClassVar[bool] = True
    modules: ClassVar[tuple[str, ...]] = ()
    packages: ClassVar[tuple[str, ...]] = ()
    __dataclass_fields__: ClassVar[dict[str, Any]]

    def can_read(self, name: str) -> bool:
        """Whether a file of this name is one to read."""
        ...

    def parts(self, path: Path) -> list[Path]:
        """The file and those that belong to it; the file alone by default.

        Raises:
            CohortError: One of them is missing.
        """
        return [path]

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read a file's scans, in their order, the same at each call.

        Raises:
            CohortError: The file is damaged; one line says where.
        """
        ...
