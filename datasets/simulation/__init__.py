"""Simulated cohorts with known peaks."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from datasets.simulation.generating_model import UNITS
    from datasets.simulation.settings import (
        BLOOD_VALUES,
        KEPT_COVARIATES,
        LIMITS,
        CovariateChoice,
        SimulationSettings,
        Technique,
    )
    from datasets.simulation.simulate import (
        GENERATOR_VERSION,
        SimulatedCohort,
        read_truth,
        simulate_cohort,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
