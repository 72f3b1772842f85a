"""Small raw files of every format, sound unless a test breaks them."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from datasets.readers import SourceFile

Numbers = Sequence[float] | np.ndarray

MZML_NAMESPACE = "http://psi.hupo.org/ms/mzml"


@dataclass(frozen=True)
class Spectrum:
    """A spectrum to be written as mzML."""

    mz: Numbers
    intensity: Numbers
    level: int = 1
    kind: str = "profile spectrum"


def source_file(path: Path) -> SourceFile:
    """A file as the importer lists it."""
    return SourceFile(path, f"{path.parent.name}/{path.name}")


def write_mzml(path: Path, spectra: Iterable[Spectrum], promised: int | None = None) -> Path:
    """Write mzML; ``promised`` is how many spectra its header says there are."""
    bodies = [_mzml_spectrum(index, spectrum) for index, spectrum in enumerate(spectra)]
    count = len(bodies) if promised is None else promised
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'<?xml version="1.0" encoding="utf-8"?>\n<mzML xmlns="{MZML_NAMESPACE}" version="1.1.0">\n'
        f'<run id="run"><spectrumList count="{count}">\n' + "".join(bodies) + "</spectrumList>"
        "</run></mzML>\n"
    )
    return path


def _mzml_spectrum(index: int, spectrum: Spectrum) -> str:
    arrays = [("MS:1000514", "m/z array", spectrum.mz)]
    arrays.append(("MS:1000515", "intensity array", spectrum.intensity))
    return (
        f'<spectrum index="{index}" id="scan={index + 1}" defaultArrayLength="{len(spectrum.mz)}">'
        f'<cvParam cvRef="MS" accession="MS:1000511" name="ms level" value="{spectrum.level}"/>'
        f'<cvParam cvRef="MS" accession="MS:1000128" name="{spectrum.kind}" value=""/>'
        '<scanList count="1"><scan><cvParam cvRef="MS" accession="MS:1000016" '
        f'name="scan start time" value="{60 * index}" unitCvRef="UO" unitAccession="UO:0000010" '
        'unitName="second"/></scan></scanList>'
        '<binaryDataArrayList count="2">'
        + "".join(_mzml_array(*array) for array in arrays)
        + "</binaryDataArrayList></spectrum>\n"
    )


def _mzml_array(accession: str, name: str, values: Numbers) -> str:
    text = base64.b64encode(zlib.compress(np.asarray(values, "<f8").tobytes())).decode()
    return (
        f'<binaryDataArray encodedLength="{len(text)}">'
        '<cvParam cvRef="MS" accession="MS:1000523" name="64-bit float" value=""/>'
        '<cvParam cvRef="MS" accession="MS:1000574" name="zlib compression" value=""/>'
        f'<cvParam cvRef="MS" accession="{accession}" name="{name}" value=""/>'
        f"<binary>{text}</binary></binaryDataArray>"
    )


# A calibration like that of a linear instrument up to m/z 20,000.
CALIBRATION = {"ML1": 5392738.36, "ML2": 417.48, "ML3": -0.0156, "DELAY": 19462, "DW": 2}


def mz_to_tof(mz: np.ndarray, ml1: float, ml2: float, ml3: float) -> np.ndarray:
    """Flight times, by the calibration's equation as it is published."""
    root = np.sqrt(mz)
    return ml3 * root**2 + np.sqrt(1e12 / ml1) * root + ml2


def write_bruker(
    sample: Path,
    counts: Numbers,
    spot: str = "A1",
    replicate: str = "1",
    acqu: str = "acqu",
    order: str = "<",
    **parameters: Any,
) -> Path:
    """Write an acquisition into a sample's folder; ``parameters`` are those of acqu, None drops."""
    folder = sample / f"0_{spot}" / replicate / "1SLin"
    folder.mkdir(parents=True, exist_ok=True)
    written = {
        "BYTORDA": 0 if order == "<" else 1,
        "TD": len(counts),
        **CALIBRATION,
        "NoSHOTS": 240,
        "InstrID": "<269944.1>",
        "AQ_DATE": "<2014-05-06T13:03:42.324+02:00>",
        "PATCHNO": f"<{spot}>",
        "HPClUse": "no",
        "CALMR": "(0..3)\n0 0 0 0",
        **parameters,
    }
    lines = [f"##${name}= {value} " for name, value in written.items() if value is not None]
    (folder / acqu).write_text("\n".join(["##TITLE=  XMASS Parameter file", *lines, "##END="]))
    np.asarray(counts, f"{order}i4").tofile(folder / "fid")
    return folder / "fid"


def write_wide_csv(
    path: Path, axis: Sequence[float], rows: Iterable[Sequence[Any]], columns: Sequence[str] = ()
) -> Path:
    """Write a wide table; a row is the sample's name, its ``columns``, its intensities."""
    lines = [",".join(["sample_id", *columns, *(f"{x:g}" for x in axis)])]
    lines += [",".join(map(str, row)) for row in rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path
