"""imzML, mass spectrometry imaging: a pixel is a scan; read with pyimzML."""

import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import ParseError

from datasets.errors import CohortError, refused
from datasets.readers.reader import RawReader, RawScan, SourceFile, require_package

UUID_BYTES = 16
COMPRESSION = "zlib compression"
UUID = "universally unique identifier"


@dataclass(frozen=True)
class ImzmlReader(RawReader):
    """Pixels in the order of the file, continuous or processed; a file is a sample."""

    expected = "imzML file (*.imzML with its *.ibd)"
    suffixes = (".imzml",)
    axis_unit = "m/z"
    intensity_unit = "counts"
    modules = ("pyimzml.ImzMLParser",)
    packages = ("pyimzML",)

    def parts(self, path: Path) -> list[Path]:
        """The imzML file and the .ibd file that holds its numbers."""
        for beside in sorted(path.parent.iterdir()):
            if beside.stem == path.stem and beside.suffix.lower() == ".ibd":
                return [path, beside]
        raise CohortError(f"{path.name} has no {path.stem}.ibd beside it, which holds its numbers")

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read the pixels; `scan` is the index in the file."""
        module = require_package("pyimzml.ImzMLParser", "imzML")
        numbers = self.parts(file.path)[1]
        with numbers.open("rb") as stream:
            parser = _parse(module, file, stream)
            _check_pair(parser, numbers, file)
            for index, (x, y, z) in enumerate(parser.coordinates):
                where = f"{file.name}, pixel {index}"
                mz, intensity = _pixel(parser, index, where, numbers.name)
                is_peaks = {"centroid": True, "profile": False}.get(parser.spectrum_mode)
                details = {"x": str(x), "y": str(y), "z": str(z)}
                yield RawScan(
                    file.path.stem, str(index), mz, intensity, where, is_peaks, details=details
                )


def _parse(module: Any, file: SourceFile, stream: Any) -> Any:
    # Errors of pyimzML where an element or a number is missing.
    missing = (ValueError, TypeError, AttributeError, IndexError, KeyError, RuntimeError)
    with (
        warnings.catch_warnings(),
        refused(f"{file.name} is no complete imzML", *missing),
        refused(f"{file.name} is damaged", ParseError),
    ):
        # Of terms whose name or type has changed since the file was written.
        warnings.simplefilter("ignore")
        return module.ImzMLParser(str(file.path), ibd_file=stream)


def _check_pair(parser: Any, numbers: Path, file: SourceFile) -> None:
    for group in parser.metadata.referenceable_param_groups.values():
        if COMPRESSION in group.param_by_name:
            raise CohortError(f"{file.name}: compressed numbers, which pyimzML does not read")
    named = parser.metadata.file_description.param_by_name.get(UUID)
    if named is None:
        return
    named = str(named).strip("{}").replace("-", "").lower()
    parser.m.seek(0)
    found = parser.m.read(UUID_BYTES).hex()
    if found != named:
        raise CohortError(
            f"{numbers.name} belongs to another imzML file: it is {found}, {file.name} names "
            f"{named}"
        )


def _pixel(parser: Any, index: int, where: str, numbers: str) -> tuple[Any, Any]:
    with refused(f"{where} cannot be read from {numbers}", ValueError, OSError, OverflowError):
        mz, intensity = parser.getspectrum(index)
    for found, promised in (
        (len(mz), parser.mzLengths[index]),
        (len(intensity), parser.intensityLengths[index]),
    ):
        if found != promised:
            raise CohortError(f"{where}: {numbers} ends after {found} of {promised} points")
    return mz, intensity
