"""What can be chosen of a simulated cohort besides its size, and its covariates."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from datasets.errors import CohortError, nearest

Technique = Literal["maldi", "raman", "ftir", "nir"]
CovariateChoice = Literal["all", "few", "none"]

# Median and standard deviation of the logarithm: close to the ranges of a hospital laboratory.
BLOOD_VALUES = {
    "CRP": (4.0, 0.90),
    "ALT": (27.0, 0.45),
    "AST": (25.0, 0.38),
    "GGT": (32.0, 0.55),
    "albumin": (41.0, 0.11),
}
NUMERIC = ("age", "BMI", *BLOOD_VALUES)
CATEGORICAL = ("sex",)
KEPT_COVARIATES: dict[CovariateChoice, tuple[str, ...]] = {
    "all": (*NUMERIC, *CATEGORICAL),
    "few": ("age", "sex", "albumin"),
    "none": (),
}

# Numbers by name: smallest and largest value.
LIMITS = {
    "main_effects": (0.0, 3.0),
    "interactions": (0.0, 0.95),
    "subtypes": (0, 6),
    "calibration_shift": (0.0, 100.0),
    "cosmic_spikes": (0.0, 100.0),
}


@dataclass(frozen=True)
class SimulationSettings:
    """How the spectra are measured, and how the label depends on them. CohortError where invalid.

    Attributes:
        technique: Which spectra: narrow peaks in ion counts (m/z), or bands (cm-1, nm).
        covariates: Which of them there are; ``few`` are age, sex and albumin.
        main_effects: Factor on the effects of the eight disease peaks.
        interactions: Correlation of the log heights of each of two pairs of peaks: positive in
            cases, negative in controls, so that no single peak knows the label.
        subtypes: Disease subtypes; each case has one, which raises three peaks of its own. 0: none.
        calibration_shift: Standard deviation of each scan's shift, in points, and of its stretch,
            in points at both ends of the axis.
        cosmic_spikes: Mean number of cosmic rays in a Raman scan.
    """

    technique: Technique = "maldi"
    covariates: CovariateChoice = "all"
    main_effects: float = 1.0
    interactions: float = 0.0
    subtypes: int = 0
    calibration_shift: float = 0.0
    cosmic_spikes: float = 0.0

    def __post_init__(self) -> None:
        """Check every value."""
        for name, kind in (("technique", Technique), ("covariates", CovariateChoice)):
            if getattr(self, name) not in (choices := get_args(kind)):
                raise CohortError(
                    f"no {name} is called '{getattr(self, name)}'"
                    f"{nearest(getattr(self, name), choices)}"
                )
        for name, limits in LIMITS.items():
            _check_number(name, getattr(self, name), *limits)
        if self.subtypes == 1:
            raise CohortError("subtypes has to be 0 or at least 2, not 1")
        if self.cosmic_spikes and self.technique != "raman":
            raise CohortError(f"cosmic_spikes goes with technique raman, not {self.technique}")

    def changed(self) -> dict[str, Any]:
        """The settings that are not the default, by name."""
        return {
            field.name: value
            for field, value in zip(fields(self), asdict(self).values(), strict=True)
            if value != field.default
        }


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    kinds, word = (int, "whole number") if isinstance(low, int) else ((int, float), "number")
    if isinstance(value, bool) or not isinstance(value, kinds) or not low <= value <= high:
        raise CohortError(f"{name} has to be a {word} from {low:g} to {high:g}, not {value!r}")


DEFAULT_SETTINGS = SimulationSettings()
