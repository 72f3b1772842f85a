"""From time of flight to m/z, as Bruker's flex instruments calibrate."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from datasets.errors import CohortError
from datasets.readers.reader import RawReader, RawScan, SourceFile

# ML1 is given so that sqrt(1e12 / ML1) is the flight time's slope in ns.
NANOSECONDS = 1e12
FID = "fid"
# The current parameters, updated by a later calibration, before the acquired ones.
ACQU = ("acqu", "acqus")
PARAMETER = re.compile(r"##\$?(?P<name>[^=]+)=(?P<value>.*)")
BYTE_ORDER = {"0": "<i4", "1": ">i4"}
# ``0_F9``: target position before the spot's name.
SPOT_FOLDER = re.compile(r"\d+_(?P<spot>.+)")
# Calibrations beyond the quadratic one; Bruker publishes no formula for them.
CUBIC = "CTOF2CalibrationConstants"
LIFT = "2"


def tof_to_mz(tof: np.ndarray, ml1: float, ml2: float, ml3: float) -> np.ndarray:
    """Solve the quadratic TOF calibration for m/z, [n]; NaN where there is no solution.

    With x = sqrt(m/z) it is ``ML3 x^2 + sqrt(1e12 / ML1) x + (ML2 - tof) = 0`` (Titulaer et al.,
    BMC Bioinformatics 7:403, 2006; readBrukerFlexData, Gibb and Strimmer, Bioinformatics 28:2270,
    2012), ``tof`` [n] and ``ml2`` in ns. The root's form loses no digits as ML3 vanishes.
    """
    slope = np.sqrt(NANOSECONDS / ml1)
    rest = ml2 - np.asarray(tof, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        root = -2.0 * rest / (slope + np.sqrt(slope**2 - 4.0 * ml3 * rest))
    return root**2


@dataclass(frozen=True)
class BrukerFlexReader(RawReader):
    """Flex acquisitions; a spot of a sample's folder is a sample, its replicates are the scans.

    The name is ``SAMPLE_SPOT``, the label ``SAMPLE``; spot, instrument, shots, date are columns.
    """

    expected = "Bruker flex acquisition (a file named fid)"
    axis_unit = "m/z"
    intensity_unit = "counts"
    one_scan_a_file = True

    def can_read(self, name: str) -> bool:
        """Whether a file holds counts."""
        return name == FID

    def parts(self, path: Path) -> list[Path]:
        """The counts and how they were taken."""
        for name in ACQU:
            if (path.parent / name).is_file():
                return [path, path.parent / name]
        raise CohortError(f"{path.parent.name}/{path.name} has no acqu or acqus beside it")

    def read(self, file: SourceFile) -> Iterator[RawScan]:
        """Read the one scan."""
        fid, acqu = self.parts(file.path)
        parameters = read_parameters(acqu)
        mz, counts = _calibrated(fid, parameters, file.name)
        replicate, spot_folder, sample = (folder.name for folder in fid.resolve().parents[1:4])
        matched = SPOT_FOLDER.fullmatch(spot_folder)
        spot = parameters.get("PATCHNO") or (matched["spot"] if matched else spot_folder)
        columns = {
            "label": sample,
            "spot": spot,
            "instrument": parameters.get("InstrID", ""),
            "shots": parameters.get("NoSHOTS", ""),
            "acq_date": parameters.get("AQ_DATE", "").partition("T")[0],
        }
        yield RawScan(f"{sample}_{spot}", replicate, mz, counts, file.name, False, columns)


def read_parameters(path: Path) -> dict[str, str]:
    """Read an acqu file (JCAMP-DX): name -> value as text, without the brackets of strings."""
    parameters: dict[str, str] = {}
    name = None
    # The vendor's software writes the Windows code page; the fields needed are plain ASCII.
    for line in path.read_text(encoding="latin-1").splitlines():
        matched = PARAMETER.match(line)
        if matched:
            name = matched["name"].strip()
            parameters[name] = matched["value"].strip()
        elif name is not None:
            parameters[name] += " " + line.strip()
    return {key: value.removeprefix("<").removesuffix(">") for key, value in parameters.items()}


def _calibrated(
    fid: Path, parameters: Mapping[str, str], where: str
) -> tuple[np.ndarray, np.ndarray]:
    _refuse_unpublished(parameters, where)
    order = parameters.get("BYTORDA", "0")
    if order not in BYTE_ORDER:
        raise CohortError(f"{where}: BYTORDA is {order!r} in its acqu; 0 or 1 was expected")
    points, delay, width = (_number(parameters, name, where) for name in ("TD", "DELAY", "DW"))
    ml1, ml2, ml3 = (_number(parameters, name, where) for name in ("ML1", "ML2", "ML3"))
    if ml1 <= 0 or width <= 0:
        raise CohortError(f"{where}: ML1 {ml1:g} and DW {width:g}; both must be above 0")
    dtype = np.dtype(BYTE_ORDER[order])
    size = fid.stat().st_size
    if size != points * dtype.itemsize:
        raise CohortError(
            f"{where} holds {size} bytes; its acqu says {points:g} points (TD), which are "
            f"{points * dtype.itemsize:.0f}"
        )
    counts = np.fromfile(fid, dtype)
    tof = delay + np.arange(len(counts)) * width
    # No ion is faster than m/z 0.
    flown = tof >= ml2
    mz = tof_to_mz(tof[flown], ml1, ml2, ml3)
    if np.isnan(mz).any():
        raise CohortError(f"{where}: its calibration (ML1 to ML3) has no m/z for its last points")
    return mz, counts[flown].astype(np.float64)


def _refuse_unpublished(parameters: Mapping[str, str], where: str) -> None:
    """Refuse calibrations whose formula is not published, rather than shift every peak."""
    used = None
    if parameters.get("HPClUse") == "yes" and parameters.get("HPClOrd", "0") != "0":
        used = "high precision calibration (HPC)"
    elif CUBIC in parameters.get("NTBCal", ""):
        used = "cubic calibration (CTOF2)"
    elif parameters.get("SPType") == LIFT:
        used = "LIFT"
    if used:
        raise CohortError(
            f"{where} uses {used}, whose formula is not published; export it as mzML and import "
            "that"
        )


def _number(parameters: Mapping[str, str], name: str, where: str) -> float:
    try:
        return float(parameters[name])
    except (KeyError, ValueError) as error:
        found = f"is {parameters[name]!r}" if name in parameters else "is missing"
        raise CohortError(f"{where}: {name} {found} in its acqu; a number was expected") from error
