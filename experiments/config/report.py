"""The sections ``audit``, ``report`` and ``baselines``: what is looked for, and shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from engine.explain import METHODS, MOST_STEPS, STEPS
from engine.statistics import check_demand, check_rule
from experiments.config.components import (
    ComponentConfig,
    Number,
    Positive,
    Section,
    Text,
    Texts,
    Whole,
    one_of,
    several,
)

# engine.statistics.fewest_resamples(0.95), without the imports that it takes.
FEWEST_RESAMPLES = 40

LATE_FUSION = "late_fusion"
# The keys of models.classical.CLASSIFIERS and REGRESSORS, without the import of scikit-learn.
BASELINE_NAMES = (
    *("spectra_logistic", "spectra_pca_logistic", "spectra_pls", "spectra_svm"),
    *("spectra_ridge", "spectra_extra_trees"),
    *("covariates_logistic", "covariates_ridge", "covariates_extra_trees", "covariates_boosting"),
    LATE_FUSION,
)

# What the audit's checks find: a name by itself, or followed by ``:`` and a column or a place.
FINDINGS = (
    *("label_leakage", "groups", "duplicates", "near_duplicates", "missingness", "confounding"),
    *("marker", "column", "batch", "order", "axis_shift", "intensity", "scan_count", "scans"),
    *("spelling", "axis", "table", "counts", "shares", "split", "sampled", "transforms"),
)


class AuditConfig(Section):
    """What is looked for in the data before anything is trained."""

    enabled: bool = True
    accept: Annotated[list[str], BeforeValidator(several), one_of(FINDINGS, "no finding", ":")] = (
        Field(default=[], description="findings that do not stop a training")
    )


class ThresholdConfig(Section):
    """From which probability on a sample is called positive; chosen on the validation set."""

    rule: Annotated[Text, AfterValidator(check_rule)] = Field(
        default="youden", description="youden, f1, recall, fpr, cost or default"
    )
    demand: Annotated[Number, Field(ge=0, le=1e6)] | None = Field(
        default=None,
        validate_default=True,
        description="least recall, largest fpr, or what a missed positive costs in false alarms",
    )

    @field_validator("demand")
    @classmethod
    def _fits_the_rule(cls, demand: float | None, info: ValidationInfo) -> float | None:
        # A rule that was refused is not there.
        if "rule" in info.data:
            check_demand(info.data["rule"], demand)
        return demand

    @model_validator(mode="after")
    def _fill_usual_demand(self) -> ThresholdConfig:
        usual = check_demand(self.rule, self.demand)
        if self.demand is None and usual is not None:
            self.derive("demand", usual)
        return self


class AttributionConfig(Section):
    """What the scores of the test samples rest on."""

    method: Annotated[Text, one_of(METHODS, "nothing")] | None = Field(
        default="integrated_gradients", description=f"{', '.join(METHODS)}; null for none"
    )
    max_samples: Positive = Field(default=500, description="explain the first so many")
    steps: Annotated[Whole, Field(ge=1, le=MOST_STEPS)] = Field(
        default=STEPS, description="of integrated gradients and gradient SHAP"
    )


class ReportConfig(Section):
    """The interactive pages, and how sure their figures are."""

    enabled: bool = True
    language: Literal["en", "zh"] = Field(
        default="en", description="what the page starts with; its reader can change it"
    )
    resamples: Annotated[Whole, Field(ge=0, le=10**6)] = Field(
        default=1000, description=f"of bootstrap intervals, at least {FEWEST_RESAMPLES}; 0 for none"
    )
    threshold: ThresholdConfig = ThresholdConfig()
    attribution: AttributionConfig = AttributionConfig()
    sections: Annotated[list[ComponentConfig], BeforeValidator(several)] = Field(
        default=[], description="dotted paths to functions that return sections of your own"
    )

    @field_validator("resamples")
    @classmethod
    def _enough_for_an_interval(cls, resamples: int) -> int:
        if 0 < resamples < FEWEST_RESAMPLES:
            raise ValueError(f"an interval takes at least {FEWEST_RESAMPLES} resamples; 0 is none")
        return resamples


class BaselinesConfig(Section):
    """Classical models, fitted to the same training set and shown beside the network."""

    enabled: bool = True
    models: Annotated[Texts, one_of(BASELINE_NAMES, "no baseline")] = Field(
        default=[], description="names; defaults to all that fit the data"
    )
    max_samples: Positive = Field(
        default=10000, description="of a larger training set, so many samples are drawn by group"
    )
