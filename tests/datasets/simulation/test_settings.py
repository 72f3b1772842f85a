from __future__ import annotations

from typing import Any

import pytest

from datasets.errors import CohortError
from datasets.simulation.settings import DEFAULT_SETTINGS, SimulationSettings


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"technique": "ramn"}, "no technique is called 'ramn'; did you mean 'raman'?"),
        ({"covariates": "some"}, "no covariates is called 'some'.*all, few, none"),
        ({"interactions": 1.0}, "interactions has to be a number from 0 to 0.95, not 1.0"),
        ({"interactions": float("nan")}, "interactions has to be a number .* not nan"),
        ({"main_effects": "strong"}, "main_effects has to be a number from 0 to 3, not 'strong'"),
        ({"subtypes": 2.5}, "subtypes has to be a whole number from 0 to 6, not 2.5"),
        ({"subtypes": 1}, "subtypes has to be 0 or at least 2, not 1"),
        ({"calibration_shift": -1}, "calibration_shift has to be .* not -1"),
        ({"calibration_shift": True}, "calibration_shift has to be .* not True"),
        ({"cosmic_spikes": 1}, "cosmic_spikes goes with technique raman, not maldi"),
    ],
)
def test_a_wrong_value_is_one_clear_line(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(CohortError, match=f"^{message.replace('?', '[?]')}") as raised:
        SimulationSettings(**wrong)
    assert "\n" not in str(raised.value)


def test_only_what_is_not_the_default_counts_as_changed() -> None:
    assert DEFAULT_SETTINGS.changed() == {}
    assert SimulationSettings(main_effects=1, interactions=0).changed() == {}
    changed = SimulationSettings(technique="raman", cosmic_spikes=0.5).changed()
    assert changed == {"technique": "raman", "cosmic_spikes": 0.5}
