"""mzML, the open format that every vendor's data can be converted to; read with pyteomics."""

from __future__ import annotations

import binascii
import gzip
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from datasets.errors import CohortError, one_line
from datasets.readers.reader import RawReader, RawScan, SourceFile, require_package

ENDINGS = re.compile(r"\.mzml(\.gz)?$", re.IGNORECASE)
SECONDS_A_MINUTE = 60


class AnyTerm:
    """A PSI-MS vocabulary that knows every term, and no term's type.

    Without one pyteomics would fetch the vocabulary over the network, and stop at unknown terms.
    """

    name = None
    relationship = ()

    def __getitem__(self, accession: str) -> AnyTerm:
        """Every term is the same."""
        return self


@dataclass(frozen=True)
class MzmlReader(RawReader):
    """Spectra of one MS level, `ms_level`, in the order of the file; a file is a sample."""

    ms_level: int = 1

    expected = "mzML file (*.mzML, *.mzML.gz)"
    suffixes = (".mzml", ".mzml.gz")
    axis_unit = "m/z"
    intensity_unit = "counts"
    modules = ("pyteomics.mzml", "lxml.etree")
    packages = ("pyteomics", "lxml")

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read the level's spectra; `scan` is the index in the file."""
        mzml = require_package("pyteomics.mzml", "mzML")
        xml = require_package("lxml.etree", "mzML")
        damage = (xml.XMLSyntaxError, zlib.error, binascii.Error, EOFError, gzip.BadGzipFile)
        levels: Counter[str] = Counter()
        try:
            promised = _promised_spectra(file.path, xml)
            # Long profiles exceed lxml's limit of text.
            with (
                _open(file.path) as stream,
                # mzml.read does not pass the vocabulary.
                closing(
                    mzml.MzML(stream, huge_tree=True, cv=AnyTerm(), use_index=False)
                ) as spectra,
            ):
                for spectrum in spectra:
                    level = str(spectrum.get("ms level", "none"))
                    levels[level] += 1
                    if level == str(self.ms_level):
                        yield _scan(spectrum, file)
        except damage as error:
            raise CohortError(
                f"{file.name} is damaged after {levels.total()} spectra: {one_line(error)}"
            ) from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, CohortError):
                raise
            raise CohortError(
                f"{file.name}, spectrum {levels.total()}, cannot be read: {one_line(error)}"
            ) from error
        if promised is not None and levels.total() != promised:
            raise CohortError(
                f"{file.name} holds {levels.total()} spectra, its header promises {promised}"
            )
        if not levels[str(self.ms_level)]:
            found = ", ".join(f"{level}: {count}" for level, count in sorted(levels.items()))
            raise CohortError(
                f"{file.name} has no spectrum of MS level {self.ms_level} (spectra by level: "
                f"{found or 'none'}); choose with --ms-level"
            )


def _open(path: Path) -> Any:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")


def _promised_spectra(path: Path, xml: Any) -> int | None:
    """Number of spectra in the header; a file with a document type is no mzML."""
    with _open(path) as stream:
        for _, element in xml.iterparse(stream, events=("start",)):
            if element.getroottree().docinfo.doctype:
                raise CohortError(f"{path.name} declares a document type, which mzML has not")
            if xml.QName(element).localname == "spectrumList":
                return int(element.get("count"))
    return None


def _scan(spectrum: dict[str, Any], file: SourceFile) -> RawScan:
    index = int(spectrum["index"])
    where = f"{file.name}, spectrum {index}"
    mz, intensity = spectrum.get("m/z array"), spectrum.get("intensity array")
    promised = int(spectrum["defaultArrayLength"])
    if not promised and mz is None:  # arrays of an empty spectrum may be missing
        mz = intensity = ()
    if mz is None or intensity is None:
        raise CohortError(f"{where} has no arrays of m/z and intensity")
    if len(mz) != promised:
        raise CohortError(f"{where} holds {len(mz)} points, its header promises {promised}")
    is_peaks = False if "profile spectrum" in spectrum else "centroid spectrum" in spectrum or None
    details = {"native_id": str(spectrum.get("id", "")), "rt_minutes": _minutes(spectrum)}
    name = ENDINGS.sub("", file.path.name)
    name = file.path.stem if name == file.path.name else name
    return RawScan(name, str(index), mz, intensity, where, is_peaks, details=details)


def _minutes(spectrum: dict[str, Any]) -> str:
    """Start time of the scan as text; empty where the file does not say."""
    scans = spectrum.get("scanList", {}).get("scan", [{}])
    time = scans[0].get("scan start time") if scans else None
    if time is None:
        return ""
    in_seconds = getattr(time, "unit_info", None) == "second"
    return f"{float(time) / (SECONDS_A_MINUTE if in_seconds else 1):.6g}"
