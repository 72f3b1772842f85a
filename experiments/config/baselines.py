"""The ``baselines`` section of a configuration: which classical models stand beside the network."""

from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field, field_validator

from datasets.errors import nearest
from experiments.config.components import Positive, Section, Text, several

LATE_FUSION = "late_fusion"
# The keys of models.classical.CLASSIFIERS and REGRESSORS, without the import of scikit-learn.
BASELINE_NAMES = (
    "spectra_logistic",
    "spectra_pca_logistic",
    "spectra_pls",
    "spectra_svm",
    "spectra_ridge",
    "spectra_extra_trees",
    "covariates_logistic",
    "covariates_ridge",
    "covariates_extra_trees",
    "covariates_boosting",
    LATE_FUSION,
)


class BaselinesConfig(Section):
    """Classical models, fitted to the same training set and shown beside the network."""

    enabled: bool = True
    models: Annotated[list[Text], BeforeValidator(several)] = Field(
        default=[], description="names; defaults to all that fit the data"
    )
    max_samples: Positive = Field(
        default=10000, description="of a larger training set, so many samples are drawn by group"
    )

    @field_validator("models")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name not in BASELINE_NAMES:
                raise ValueError(f"no baseline is called '{name}'{nearest(name, BASELINE_NAMES)}")
        return names
