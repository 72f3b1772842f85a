"""From time of flight to m/z, as Bruker's flex instruments calibrate."""

from __future__ import annotations

import numpy as np

# ML1 is given so that sqrt(1e12 / ML1) is the flight time's slope in ns.
NANOSECONDS = 1e12


def tof_to_mz(tof: np.ndarray, ml1: float, ml2: float, ml3: float) -> np.ndarray:
    """Solve the quadratic TOF calibration for m/z.

    With x = sqrt(m/z) it is ``ML3 x^2 + sqrt(1e12 / ML1) x + (ML2 - tof) = 0``, as given by
    Titulaer et al., BMC Bioinformatics 7:403 (2006), and used by readBrukerFlexData of MALDIquant
    (Gibb and Strimmer, Bioinformatics 28:2270, 2012). The root is taken in the form that loses no
    digits as ML3 vanishes.

    Args:
        tof: Flight times in ns, [n], none shorter than ML2, that of m/z 0.
        ml1: Constant of the slope.
        ml2: Flight time of m/z 0, in ns.
        ml3: Constant of the curvature; 0 for a linear calibration.

    Returns:
        m/z, [n]; NaN where the equation has no solution.

    Example:
        >>> tof_to_mz(np.array([20.0, 40.0]), ml1=1e12, ml2=0.0, ml3=0.0).tolist()
        [400.0, 1600.0]
    """
    slope = np.sqrt(NANOSECONDS / ml1)
    rest = ml2 - np.asarray(tof, dtype=np.float64)
    with np.errstate(invalid="ignore"):
        root = -2.0 * rest / (slope + np.sqrt(slope**2 - 4.0 * ml3 * rest))
    return root**2
