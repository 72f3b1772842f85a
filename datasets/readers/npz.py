"""NPZ archives of NumPy: spectra [N, L], their axis, and what is known of each row."""

from __future__ import annotations

import math
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO

import numpy as np

from datasets.errors import CohortError, nearest, refused
from datasets.readers.reader import RawReader, RawScan, SourceFile
from datasets.readers.wide_table import cell_text

SPECTRA, AXIS, SAMPLES, SCAN = "spectra", "axis", "sample_id", "scan"
DAMAGE = (zipfile.BadZipFile, zlib.error, EOFError, ValueError, struct.error, SyntaxError)


@dataclass(frozen=True)
class NpzReader(RawReader):
    """Rows of an archive's `spectra` [N, L], each a scan, read one after the other.

    `axis` is [L] or [N, L], `sample_id` [N]; `scan` [N] distinguishes a sample's scans; every other
    array [N] is a column of the sample; other shapes are ignored.
    """

    expected = "NPZ archive (*.npz)"
    suffixes = (".npz",)
    names_samples_itself = True

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read a row at a time; never unpickles."""
        with refused(f"{file.name} is damaged", *DAMAGE), ExitStack() as opened:
            archive = opened.enter_context(zipfile.ZipFile(file.path))
            members = {}
            for info in archive.infolist():
                if info.filename.endswith(".npy"):
                    member = _Member(opened.enter_context(archive.open(info)), info, file.name)
                    members[member.name] = member
            yield from _scans(members, file.name)


def _scans(members: Mapping[str, _Member], where: str) -> Iterator[RawScan]:
    for name in (SPECTRA, AXIS, SAMPLES):
        if name not in members:
            raise CohortError(f"{where} has no array {name!r}{nearest(name, members)}")
    spectra, axis = members[SPECTRA], members[AXIS]
    for member in (spectra, axis):
        if member.dtype.kind not in "fiu":
            raise CohortError(f"{where}: {member.name} holds {member.dtype}, no numbers")
    if len(spectra.shape) != 2:
        raise CohortError(
            f"{where}: spectra is {list(spectra.shape)}; [scans, points] was expected"
        )
    rows, points = spectra.shape
    if axis.shape not in ((points,), (rows, points)):
        raise CohortError(
            f"{where}: axis is {list(axis.shape)}, spectra {list(spectra.shape)}; an axis of "
            f"{points} points was expected"
        )
    common = axis.read((points,)) if axis.shape == (points,) else None
    about = {
        name: member.read((rows,))
        for name, member in members.items()
        if name not in (SPECTRA, AXIS) and member.shape == (rows,)
    }
    if SAMPLES not in about:
        raise CohortError(f"{where}: sample_id is not [{rows}], a name for each row of spectra")
    for row in range(rows):
        text = {name: cell_text(values[row].item()) for name, values in about.items()}
        sample_id = text.pop(SAMPLES)
        mz = axis.read((points,)) if common is None else common
        intensity = spectra.read((points,))
        about_row = f"{where}, row {row} (sample {sample_id!r})"
        yield RawScan(sample_id, text.pop(SCAN, "0"), mz, intensity, about_row, columns=text)


class _Member:
    """An array of the archive, read sequentially."""

    def __init__(self, stream: IO[bytes], info: zipfile.ZipInfo, where: str) -> None:
        self.name = info.filename.removesuffix(".npy")
        self.where = where
        self.stream = stream
        major, minor = np.lib.format.read_magic(stream)
        read_header = getattr(np.lib.format, f"read_array_header_{major}_{minor}", None)
        if read_header is None:
            raise CohortError(f"an .npy file of version {major}.{minor}; 1.0 or 2.0 was expected")
        self.shape, fortran, self.dtype = read_header(stream)
        if self.dtype.hasobject:
            raise CohortError(f"{where}: {self.name} holds Python objects, which are not read")
        if fortran and len(self.shape) > 1:
            raise CohortError(
                f"{where}: {self.name} is stored by columns; save np.ascontiguousarray of it"
            )

    def read(self, shape: tuple[int, ...]) -> np.ndarray:
        """The next numbers, flat, as many as an array of that shape has."""
        wanted = math.prod(shape) * self.dtype.itemsize
        data = self.stream.read(wanted)
        if len(data) < wanted:
            raise CohortError(f"{self.where} is damaged: {self.name} ends early")
        return np.frombuffer(data, self.dtype)
