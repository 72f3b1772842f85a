"""The ``data`` section of a configuration: which samples, and how they reach the model."""

from __future__ import annotations

from dataclasses import fields
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator, model_validator

from datasets.simulation import (
    BLOOD_VALUES,
    KEPT_COVARIATES,
    LIMITS,
    CovariateChoice,
    SimulationSettings,
    Technique,
)
from engine.metrics import CLASSES, TASKS
from experiments.config.automatic import AUTOMATIC
from experiments.config.components import (
    ComponentConfig,
    Count,
    Fraction,
    Number,
    Positive,
    Section,
    Seed,
    Source,
    Text,
    Texts,
    Whole,
    several,
)

SEVERAL_COLUMNS = tuple(task for task in TASKS if task not in CLASSES)


def _within(name: str) -> Any:
    low, high = LIMITS[name]
    return Field(ge=low, le=high)


class SimulatedConfig(Section):
    """The embedded cohort, used where ``data.root`` names none."""

    seed: Seed = 2025
    n_samples: Annotated[Whole, Field(ge=20, le=10**6)] = 900
    technique: Technique = Field(
        default="maldi", description="peaks in ion counts (m/z), or bands (cm-1, nm)"
    )
    covariates: CovariateChoice = Field(default="all", description="few are age, sex and albumin")
    main_effects: Annotated[Number, _within("main_effects")] = Field(
        default=1.0, description="factor on the effects of the eight disease peaks"
    )
    interactions: Annotated[Number, _within("interactions")] = Field(
        default=0.0,
        description="correlation of two pairs of peaks, positive in cases, negative in controls",
    )
    subtypes: Annotated[Whole, _within("subtypes")] = Field(
        default=0, description="disease subtypes, each with three peaks of its own"
    )
    calibration_shift: Annotated[Number, _within("calibration_shift")] = Field(
        default=0.0, description="of each scan's shift and stretch: standard deviation in points"
    )
    cosmic_spikes: Annotated[Number, _within("cosmic_spikes")] = Field(
        default=0.0, description="mean number in a Raman scan"
    )

    def settings(self) -> SimulationSettings:
        """All but the size and the seed."""
        names = [field.name for field in fields(SimulationSettings)]
        return SimulationSettings(**{name: getattr(self, name) for name in names})

    @model_validator(mode="after")
    def _fit_together(self) -> SimulatedConfig:
        self.settings()  # refuses what does not fit together
        return self


# More processes than any machine has processors for.
MOST_WORKERS = 1024

SplitKind = Literal["holdout", "kfold", "leave_one_group_out", "leave_one_batch_out", "hash"]
# Of these one fold after the other can be the test set.
IN_FOLDS: tuple[SplitKind, ...] = ("kfold", "leave_one_group_out", "leave_one_batch_out")


class SplitConfig(Section):
    """How the samples are divided; always by group."""

    kind: SplitKind = Field(
        default="holdout",
        description="a stratified draw; one fold of several; or by hash, where new patients move "
        "nobody",
    )
    fractions: tuple[Fraction, Fraction, Fraction] = Field(
        default=(0.7, 0.15, 0.15),
        description="train, validation and test; folds have a test side of their own",
    )
    seed: Seed | None = Field(default=None, description="defaults to the run's seed")
    folds: Annotated[Whole, Field(ge=2, le=10**6)] = Field(
        default=5, description="how many a kfold has"
    )
    fold: Count | Text | None = Field(
        default=None,
        description="the one to test on: a group's or batch's name, which wins, or a number from 0",
    )
    batch: Text | None = Field(
        default=None, description="the column of batches that are left out one by one"
    )
    file: Source | None = Field(default=None, description="a splits.csv to use, not a draw")

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6:
            raise ValueError("train, validation and test fractions must sum to 1")
        return fractions

    @field_validator("fold")
    @classmethod
    def _of_several(cls, fold: int | str | None, info: ValidationInfo) -> int | str | None:
        kind = info.data.get("kind")
        if fold is not None and kind is not None and kind not in IN_FOLDS:
            *first, last = IN_FOLDS
            raise ValueError(
                f"a {kind} has no folds; set data.split.kind to {', '.join(first)} or {last}"
            )
        return fold

    @model_validator(mode="after")
    def _fits_the_kind(self) -> SplitConfig:
        by_batch = self.kind == "leave_one_batch_out"
        if by_batch and self.batch is None:
            raise ValueError("kind leave_one_batch_out needs batch, the column of the batches")
        if self.batch is not None and not by_batch:
            raise ValueError(f"batch goes with kind leave_one_batch_out, which is {self.kind}")
        if self.kind != "kfold" and self.folds != type(self).model_fields["folds"].default:
            raise ValueError(f"folds goes with kind kfold, which is {self.kind}")
        if self.fold is None and self.kind in IN_FOLDS:
            self.derive("fold", 0)
        return self


# What CUDA graphs are recorded for: batches of 64 samples with up to 16 scans then have some ten
# shapes, for 1.5% more scans to compute.
SHARED_ROWS = 16
SHARED_SCANS = 8


class BatchingConfig(Section):
    """Which samples make a batch together, and how often each is trained on."""

    kind: Literal["shuffle", "bucket"] = Field(
        default="shuffle",
        description="any samples, or those with about as many scans, so that little is padded",
    )
    token_budget: Positive | None = Field(
        default=None,
        validate_default=True,
        description="of a bucket's batch: most scans x points, padding included",
    )
    balance: Literal["none", "class", "group"] = Field(
        default="none", description="which of them are trained on equally often in each epoch"
    )
    collate: Literal["auto", "padded", "packed"] = Field(
        default="auto", description="packed sends real scans only; auto does so to a GPU"
    )
    pad_rows_to: Positive | None = Field(
        default=None, description="scans that are computed a batch: a multiple of this"
    )
    pad_scans_to: Positive | None = Field(
        default=None, description="scans of each of a batch's samples, padded: a multiple of this"
    )

    @field_validator("token_budget")
    @classmethod
    def _of_buckets(cls, budget: int | None, info: ValidationInfo) -> int | None:
        if budget is not None and info.data.get("kind") == "shuffle":
            raise ValueError("only batches of kind bucket have a budget; set data.batching.kind")
        return budget


Steps = Annotated[list[Text | ComponentConfig], BeforeValidator(several)]


class DataConfig(Section):
    """Which samples, which of their columns, and what is done to their spectra."""

    root: Source | None = Field(
        default=None, description="a cohort's folder, else the embedded one"
    )
    simulated: SimulatedConfig = SimulatedConfig()
    cache_dir: Source | None = Field(
        default=None, description="for the embedded cohort and what else can be made again"
    )
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"] = Field(
        default="auto", description="what is learned; auto: two classes or more, as there are"
    )
    label: Text | list[Text] | None = Field(
        default=None, description="the column of labels, or those of several labels or values"
    )
    labels: dict[Text, Count] | None = Field(
        default=None,
        description="label -> class, 1 of two being the positive one; the rest is left out",
    )
    group: Text | None = Field(default=None, description="the column that a split never separates")
    numeric: Texts | None = None
    categorical: Texts | None = None
    log: Texts | None = Field(
        default=None,
        description="numeric covariates to take the logarithm of; defaults to those of the "
        "embedded cohort that need it, and to none of a cohort of one's own",
    )
    missing_indicators: bool = True
    covariate_encoding: Literal["standard", "piecewise"] = Field(
        default="standard",
        description="of numeric covariates: standardised, or linear within each of 8 bins",
    )
    transforms: Steps = Field(
        default=["tic", "sqrt", "standardize"],
        description=f"or {AUTOMATIC}: those of the least loss within the training set",
    )
    augmentations: Steps = Field(default=[])
    split: SplitConfig = SplitConfig()
    verify: bool = Field(
        default=False, description="hash large files anew, whatever is remembered of them"
    )
    cache: Literal["auto", "memory", "disk", "none"] = Field(
        default="auto",
        description="where transformed scans are kept; auto: in memory up to 1 GiB, else on disk",
    )
    cache_limit_gib: Annotated[Number, Field(gt=0, le=1e6)] = Field(
        default=64.0, description="of all that is kept on disk; what was not used longest goes"
    )
    batching: BatchingConfig = BatchingConfig()
    num_workers: Annotated[Whole, Field(ge=0, le=MOST_WORKERS)] = 0

    @model_validator(mode="after")
    def _choose_cohort(self) -> DataConfig:
        if self.root is not None and self.simulated != SimulatedConfig():
            raise ValueError("simulated has no effect beside root; leave one out")
        if self.log is None:
            kept = KEPT_COVARIATES[self.simulated.covariates] if self.root is None else ()
            columns = [column for column in BLOOD_VALUES if column in kept]
            labels = [self.label] if isinstance(self.label, str) else self.label or ()
            used = set(columns if self.numeric is None else self.numeric) - set(labels)
            self.derive("log", [column for column in columns if column in used])
        return self

    @field_validator("transforms")
    @classmethod
    def _automatic_alone(cls, steps: list[str | ComponentConfig]) -> list[str | ComponentConfig]:
        names = [step if isinstance(step, str) else step.name for step in steps]
        if AUTOMATIC in names and steps != [AUTOMATIC]:
            raise ValueError(f"'{AUTOMATIC}' chooses all of them and stands alone; leave one out")
        return steps

    @field_validator("batching")
    @classmethod
    def _has_classes(cls, batching: BatchingConfig, info: ValidationInfo) -> BatchingConfig:
        task = info.data.get("task")
        if batching.balance == "class" and task in SEVERAL_COLUMNS:
            raise ValueError(f"balance: a {task} task has no classes; use group or none")
        return batching

    @field_validator("label")
    @classmethod
    def _one_column_of_classes(cls, label: Any, info: ValidationInfo) -> Any:
        several = isinstance(label, list) and len(label) != 1
        if several and info.data.get("task") not in (None, *SEVERAL_COLUMNS):
            raise ValueError(
                f"several columns need data.task {' or '.join(SEVERAL_COLUMNS)}, which is "
                f"{info.data['task']}"
            )
        return label

    @field_validator("labels", mode="before")
    @classmethod
    def _names_are_text(cls, labels: Any) -> Any:
        return {str(k): v for k, v in labels.items()} if isinstance(labels, dict) else labels
