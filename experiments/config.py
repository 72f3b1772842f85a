"""The schema of a configuration: every key, its type, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator, model_validator

from datasets.targets import SEVERAL_COLUMNS
from engine.attribution import METHODS, STEPS
from engine.errors import nearest
from engine.tasks import TASKS, Mode, better_when
from engine.threshold_rules import check_demand, check_rule
from experiments.default_loss import WITH_AUXILIARY_HEADS, default_loss

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(gt=0, lt=1)]


class Section(BaseModel):
    """A section refuses keys it does not know."""

    model_config = ConfigDict(extra="forbid", protected_namespaces=())


class Named(Section):
    """Something chosen by name: a short name or a dotted import path, and its arguments."""

    name: str
    params: dict[str, Any] = {}


class SimulatedConfig(Section):
    """The embedded cohort, used where ``data.root`` names none."""

    seed: Count = 2025
    n_samples: Annotated[int, Field(ge=20)] = 900


SplitKind = Literal["holdout", "kfold", "leave_one_group_out", "leave_one_batch_out", "hash"]
# Of these one fold after the other can be the test side.
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
    seed: Count | None = Field(default=None, description="defaults to the run's seed")
    folds: Annotated[int, Field(ge=2)] = Field(default=5, description="how many a kfold has")
    fold: Count | str | None = Field(
        default=None,
        description="the one to test on: a number from 0, or a group's or batch's name",
    )
    batch: str | None = Field(
        default=None, description="the column of batches that are left out one by one"
    )
    file: Path | None = Field(default=None, description="a splits.csv to use, not a draw")

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
        if self.fold is None and self.kind in IN_FOLDS:
            self.fold = 0
        return self


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

    @field_validator("token_budget")
    @classmethod
    def _of_buckets(cls, budget: int | None, info: ValidationInfo) -> int | None:
        if budget is not None and info.data.get("kind") == "shuffle":
            raise ValueError("only batches of kind bucket have a budget; set data.batching.kind")
        return budget


class DataConfig(Section):
    """Which samples, which of their columns, and what is done to their spectra."""

    root: Path | None = Field(default=None, description="a cohort's folder, else the embedded one")
    simulated: SimulatedConfig = SimulatedConfig()
    cache_dir: Path | None = Field(
        default=None, description="for the embedded cohort and what else can be made again"
    )
    task: Literal["auto", "binary", "multiclass", "multilabel", "regression"] = Field(
        default="auto", description="what is learned; auto: two classes or more, as there are"
    )
    label: str | list[str] | None = Field(
        default=None, description="the column of labels, or those of several labels or values"
    )
    labels: dict[str, int] | None = Field(
        default=None, description="label -> class; the rest is left out"
    )
    group: str | None = Field(default=None, description="the column that a split never separates")
    numeric: list[str] | None = None
    categorical: list[str] | None = None
    log: list[str] = Field(default=[], description="numeric covariates to take the logarithm of")
    missing_indicators: bool = True
    transforms: list[str | Named] = ["tic", "sqrt", "standardize"]
    augmentations: list[str | Named] = []
    split: SplitConfig = SplitConfig()
    verify: bool = Field(
        default=False, description="hash large files anew, whatever is remembered of them"
    )
    cache: Literal["auto", "memory", "disk", "none"] = Field(
        default="auto",
        description="where transformed scans are kept; auto: in memory up to 1 GiB, else on disk",
    )
    cache_limit_gib: Annotated[float, Field(gt=0)] = Field(
        default=64.0, description="of all that is kept on disk; what was not used longest goes"
    )
    batching: BatchingConfig = BatchingConfig()
    num_workers: Count = 0

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


class TermConfig(Named):
    """A term of the loss ``weighted``; ``loss.params.terms`` maps names to them."""

    weight: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    on: str | None = Field(default=None, description="the model's output to read, not its logits")
    optional: bool = Field(default=False, description="left out where the model has no such output")


class LossConfig(Section):
    """The loss, unless the model brings its own."""

    name: str | None = Field(
        default=None, description="defaults to what suits the task and the model"
    )
    params: dict[str, Any] = {}


class Judge(Section):
    """What says which epoch is the better one."""

    monitor: str | None = Field(default=None, description="defaults to what suits the task")
    mode: Mode | None = Field(default=None, description="defaults to what suits the monitor")

    def fill(self, key: str, task: str, labels: int) -> None:
        """Choose what was not chosen.

        Args:
            key: Of this section, for the error.
            task: As configured.
            labels: How many columns of labels or values there are.

        Raises:
            ValueError: There is a mode for a monitor that it does not fit.
        """
        if self.monitor is None:
            default = TASKS["binary" if task == "auto" else task]
            self.monitor, mode = default.monitor, default.mode
            if task == "regression" and labels > 1:
                # Errors in unlike units have no mean that means anything.
                self.monitor, mode = "val/r2", "max"
            if self.mode not in (None, mode):
                raise ValueError(
                    f"{key}.mode: '{self.mode}' does not suit the default monitor, "
                    f"'{self.monitor}'; set {key}.monitor too"
                )
        self.mode = self.mode or better_when(self.monitor)


class EarlyStoppingConfig(Judge):
    """Stop when a metric no longer improves."""

    patience: Positive = 10
    cooldown: Count = 0
    min_delta: Annotated[float, Field(ge=0)] = 0.0
    relative: bool = False
    start_epoch: Count = 0


class TrainerConfig(Section):
    """The loop itself."""

    max_epochs: Positive = 40
    batch_size: Positive = 32
    device: str = "auto"
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    accumulate_steps: Positive = 1
    early_stopping: EarlyStoppingConfig | None = None


class GroupConfig(Section):
    """Other settings for the parameters whose names match."""

    match: str | list[str]
    lr_scale: Annotated[float, Field(ge=0)] = 1.0
    weight_decay: Annotated[float, Field(ge=0)] | None = None


class OptimizerConfig(Section):
    """The optimiser; ``params`` go to its constructor."""

    name: str = "adamw"
    lr: Annotated[float, Field(gt=0)] = 3e-4
    weight_decay: Annotated[float, Field(ge=0)] = 0.01
    layer_decay: Annotated[float, Field(gt=0, le=1)] | None = Field(
        default=None, description="factor of the rate from a layer to the one below it"
    )
    groups: list[GroupConfig] = Field(default=[], description="rates and decay by name")
    params: dict[str, Any] = {}


class SchedulerConfig(Section):
    """The learning rate over the run; warm-up is counted in optimizer steps."""

    name: str = "cosine"
    warmup_steps: Count = 0
    params: dict[str, Any] = {}


class CheckpointConfig(Judge):
    """Which checkpoints to keep."""

    save_top_k: Count = 3
    save_last: bool = True
    every_epochs: Positive = 1
    every_steps: Positive | None = Field(default=None, description="last.pt within an epoch too")
    keep_every_epochs: Positive | None = Field(default=None, description="kept for good")


class EmaConfig(Section):
    """Averaged weights, used for validation and test where ``decay`` is set."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    warmup: bool = True


class AuditConfig(Section):
    """What is looked for in the data before anything is trained."""

    enabled: bool = True
    accept: list[str] = Field(default=[], description="findings that do not stop a training")


class ThresholdConfig(Section):
    """From which probability on a sample is called positive; chosen on the validation side."""

    rule: str = Field(default="youden", description="youden, f1, recall, fpr, cost or default")
    demand: float | None = Field(
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
        return check_demand(info.data["rule"], demand) if "rule" in info.data else demand


class AttributionConfig(Section):
    """What the scores of the test side's samples rest on."""

    method: str | None = Field(
        default="integrated_gradients", description=f"{', '.join(METHODS)}; null for none"
    )
    max_samples: Positive = Field(default=500, description="explain the first so many")
    steps: Positive = Field(default=STEPS, description="of integrated gradients and gradient SHAP")

    @field_validator("method")
    @classmethod
    def _known(cls, method: str | None) -> str | None:
        if method is not None and method not in METHODS:
            raise ValueError(f"nothing is called '{method}'{nearest(method, METHODS)}")
        return method


class ReportConfig(Section):
    """The interactive pages, and how sure their figures are."""

    enabled: bool = True
    language: Literal["en", "zh"] = Field(
        default="en", description="what the page starts with; its reader can change it"
    )
    resamples: Count = Field(default=1000, description="of bootstrap intervals, 0 for none")
    threshold: ThresholdConfig = ThresholdConfig()
    attribution: AttributionConfig = AttributionConfig()


class Config(Section):
    """A whole configuration.

    Example:
        >>> Config.model_validate({"optimizer": {"lr": 1e-3}}).optimizer.name
        'adamw'
    """

    exp_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")] = "experiment"
    runs_dir: Path = Path("runs")
    seed: Annotated[int, Field(ge=0, lt=2**32)] = 0
    data: DataConfig = DataConfig()
    model: Named = Named(name="tft")
    loss: LossConfig = LossConfig()
    metrics: list[str] = Field(default=[], description="defaults to all that fit the task")
    trainer: TrainerConfig = TrainerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_scheduler: SchedulerConfig | None = SchedulerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    ema: EmaConfig = EmaConfig()
    handlers: list[Named] = Field(default=[], description="further handlers")
    report: ReportConfig = ReportConfig()
    audit: AuditConfig = AuditConfig()

    @model_validator(mode="after")
    def _fill_what_follows(self) -> Config:
        data, loss = self.data, self.loss
        if loss.name is None:
            has_heads = self.model.name in WITH_AUXILIARY_HEADS
            loss.name, loss.params = default_loss(data.task, has_heads, loss.params)
        if not self.metrics:
            self.metrics = list(TASKS["binary" if data.task == "auto" else data.task].metrics)
        labels = len(data.label) if isinstance(data.label, list) else 1
        self.checkpoint.fill("checkpoint", data.task, labels)
        if self.trainer.early_stopping is not None:
            self.trainer.early_stopping.fill("trainer.early_stopping", data.task, labels)
        if self.data.split.seed is None:
            self.data.split.seed = self.seed
        return self

    def plain(self) -> dict[str, Any]:
        """The configuration in plain types, as it is written to ``config.yaml``."""
        return self.model_dump(mode="json")
