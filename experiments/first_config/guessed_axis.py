"""Which technique has measured the spectra, by their axis."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# From so many zeros on, scans are peak lists of a mass spectrometer.
SPARSE = 0.2
# Absorbance, a logarithm, hardly ever exceeds it; counts do.
LARGEST_ABSORBANCE = 10.0


class Technique(NamedTuple):
    """A technique's name, the unit of its axis, and whether it measures vibrations."""

    name: str
    unit: str
    is_vibrational: bool


MASS = Technique("mass spectra", "m/z", False)
# One may be normalised and the other in percent, so that intensities do not tell which.
VIBRATIONAL = Technique("Raman or FT-IR", "cm-1", True)
NEAR_INFRARED = Technique("NIR", "nm", True)


def guess_technique(axis: np.ndarray, spectra: np.ndarray, unit: str) -> Technique | None:
    """The technique of spectra [N_scans, L] on an axis [L] in ``unit``, which may be empty.

    None where the axis fits several.
    """
    low, high = float(axis.min()), float(axis.max())
    absorbance = float(np.abs(spectra).max()) < LARGEST_ABSORBANCE
    unit = unit.strip().lower()
    if unit in ("m/z", "mz", "da", "th") or (not unit and high > 4500):
        return MASS
    if unit == "nm" or (not unit and low >= 700 and 1600 < high <= 2600 and absorbance):
        return NEAR_INFRARED
    if not unit and float((spectra == 0).mean()) > SPARSE:
        return MASS
    vibrates = high <= 4100 and (low < 700 or (absorbance and high > 2600))
    if unit in ("cm-1", "cm^-1", "1/cm", "cm⁻¹") or (not unit and vibrates):
        return VIBRATIONAL
    return None
