"""The ``audit`` and ``report`` sections of a configuration: what is looked at, and shown."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from datasets.errors import nearest
from engine.explain import METHODS, MOST_STEPS, STEPS
from engine.statistics import check_demand, check_rule
from experiments.config.components import (
    ComponentConfig,
    Number,
    Positive,
    Section,
    Text,
    Whole,
    one_of,
    several,
)

# engine.statistics.fewest_resamples(0.95), without the imports that it takes.
FEWEST_RESAMPLES = 40

# What the audit's checks find: a name by itself, or followed by ``:`` and a column or a place.
FINDINGS = (
    "label_leakage",
    "groups",
    "duplicates",
    "near_duplicates",
    "missingness",
    "confounding",
    "marker",
    "column",
    "batch",
    "order",
    "axis_shift",
    "intensity",
    "scan_count",
    "scans",
    "spelling",
    "axis",
    "table",
    "counts",
    "shares",
    "split",
    "sampled",
    "transforms",
)


class AuditConfig(Section):
    """What is looked for in the data before anything is trained."""

    enabled: bool = True
    accept: Annotated[list[str], BeforeValidator(several)] = Field(
        default=[], description="findings that do not stop a training"
    )

    @field_validator("accept")
    @classmethod
    def _known(cls, names: list[str]) -> list[str]:
        for name in names:
            if name.partition(":")[0] not in FINDINGS:
                raise ValueError(f"no finding is called '{name}'{nearest(name, FINDINGS)}")
        return names


class ThresholdConfig(Section):
    """From which probability on a sample is called positive; chosen on the validation set."""

    rule: Text = Field(default="youden", description="youden, f1, recall, fpr, cost or default")
    demand: Annotated[Number, Field(ge=0, le=1e6)] | None = Field(
        default=None,
        validate_default=True,
        description="least recall, largest fpr, or what a missed positive costs in false alarms",
    )

    @field_validator("rule")
    @classmethod
    def _known(cls, rule: str) -> str:
        return check_rule(rule)

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
