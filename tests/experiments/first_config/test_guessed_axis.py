from __future__ import annotations

import numpy as np
import pytest

from datasets.cohort import Cohort
from datasets.simulation import SimulationSettings, simulate_cohort
from experiments.first_config.guessed_axis import guess_technique

COUNTS, ABSORBANCE = np.full((2, 3), 900.0), np.full((2, 3), 0.7)


def guess(low: float, high: float, spectra: np.ndarray, unit: str = "") -> str | None:
    found = guess_technique(np.linspace(low, high, 50), spectra, unit)
    return found and found.name


@pytest.mark.parametrize(
    ("technique", "name"),
    [
        *(("maldi", "mass spectra"), ("nir", "NIR")),
        *(("raman", "Raman or FT-IR"), ("ftir", "Raman or FT-IR")),
    ],
)
def test_simulated_techniques_are_told_by_their_axis(technique, name, tmp_path):
    made = simulate_cohort(
        tmp_path / "c", 0, n_samples=20, settings=SimulationSettings(technique=technique)
    )
    cohort = Cohort.read(made.root)
    found = guess_technique(cohort.axis, cohort.spectra[:50], "")
    assert found is not None
    assert found.name == name


def test_a_unit_wins_over_the_range():
    assert guess(400, 1800, COUNTS, "m/z") == "mass spectra"
    assert guess(4000, 12500, ABSORBANCE, "cm-1") == "Raman or FT-IR"


def test_normalised_raman_spectra_are_not_called_infrared():
    assert guess(600, 1800, ABSORBANCE) == guess(600, 1800, COUNTS) == "Raman or FT-IR"


def test_peak_lists_are_mass_spectra():
    assert guess(100, 2000, np.array([[0, 0, 900.0], [0, 5, 0]])) == "mass spectra"


def test_an_axis_that_fits_several_is_not_guessed():
    assert guess(0, 4400, COUNTS) is None
