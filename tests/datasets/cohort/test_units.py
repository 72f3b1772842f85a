from __future__ import annotations

import pytest

from datasets.cohort.units import read_units
from datasets.simulation import UNITS


def test_a_simulated_cohorts_units_are_read(tmp_path):
    from datasets.simulation import simulate_cohort

    units = read_units(simulate_cohort(tmp_path / "cohort", 0, n_samples=30, spec_len=64).root)
    assert units["axis"] == "m/z"
    assert {name: units[name] for name in UNITS} == UNITS


@pytest.mark.parametrize(
    "text", [None, "", "name: a cohort", "units: none are known", "- a", "units: {axis: }"]
)
def test_a_cohort_that_does_not_say_has_none(tmp_path, text):
    if text is not None:
        (tmp_path / "cohort.yaml").write_text(text)
    assert read_units(tmp_path) == {}
