"""The schema of a configuration: every key, its type, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

Mode = Literal["max", "min"]
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


class SplitConfig(Section):
    """How the samples are divided; always by group."""

    fractions: tuple[Fraction, Fraction, Fraction] = (0.7, 0.15, 0.15)
    seed: Count | None = Field(default=None, description="defaults to the run's seed")
    file: Path | None = Field(default=None, description="a splits.csv to use, not a draw")

    @field_validator("fractions")
    @classmethod
    def _whole(cls, fractions: tuple[float, float, float]) -> tuple[float, float, float]:
        if abs(sum(fractions) - 1) > 1e-6:
            raise ValueError("train, validation and test fractions must sum to 1")
        return fractions


class DataConfig(Section):
    """Which samples, which of their columns, and what is done to their spectra."""

    root: Path | None = Field(default=None, description="a cohort's folder, else the embedded one")
    simulated: SimulatedConfig = SimulatedConfig()
    cache_dir: Path | None = Field(default=None, description="where the embedded cohort is written")
    label: str | None = Field(default=None, description="the column of labels")
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
    num_workers: Count = 0

    @field_validator("labels", mode="before")
    @classmethod
    def _names_are_text(cls, labels: Any) -> Any:
        return {str(k): v for k, v in labels.items()} if isinstance(labels, dict) else labels


class LossConfig(Section):
    """The loss, unless the model brings its own."""

    name: str | None = Field(default=None, description="defaults to what suits the model")
    params: dict[str, Any] = {}


class EarlyStoppingConfig(Section):
    """Stop when a metric no longer improves."""

    monitor: str = "val/auroc"
    mode: Mode = "max"
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


class CheckpointConfig(Section):
    """Which checkpoints to keep."""

    monitor: str = "val/auroc"
    mode: Mode = "max"
    save_top_k: Count = 3
    save_last: bool = True
    every_epochs: Positive = 1
    every_steps: Positive | None = Field(default=None, description="last.pt within an epoch too")
    keep_every_epochs: Positive | None = Field(default=None, description="kept for good")


class EmaConfig(Section):
    """Averaged weights, used for validation and test where ``decay`` is set."""

    decay: Annotated[float, Field(gt=0, lt=1)] | None = None
    warmup: bool = True


class ReportConfig(Section):
    """The interactive pages."""

    enabled: bool = True


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
    metrics: list[str] = ["accuracy", "precision", "recall", "f1", "auroc", "auprc"]
    trainer: TrainerConfig = TrainerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_scheduler: SchedulerConfig | None = SchedulerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    ema: EmaConfig = EmaConfig()
    handlers: list[Named] = Field(default=[], description="further handlers")
    report: ReportConfig = ReportConfig()

    @model_validator(mode="after")
    def _fill_what_follows(self) -> Config:
        if self.loss.name is None:
            # The multimodal model has auxiliary heads that only its own loss trains.
            self.loss.name = "tft" if self.model.name == "tft" else "cross_entropy"
        if self.data.split.seed is None:
            self.data.split.seed = self.seed
        return self

    def plain(self) -> dict[str, Any]:
        """The configuration in plain types, as it is written to ``config.yaml``."""
        return self.model_dump(mode="json")
