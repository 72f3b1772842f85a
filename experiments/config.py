"""The schema of a configuration: every key, its type, its default and what it means."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from engine.tasks import TASKS, Mode, better_when, by_target
from experiments.config_section import Count, Named, Positive, Section
from experiments.data_config import DataConfig
from experiments.default_loss import WITH_AUXILIARY_HEADS, default_loss
from experiments.report_config import AuditConfig, ReportConfig


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
    params: dict[str, Any] = Field(default={})


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


class ProcessesConfig(Section):
    """How several processes train together, where torchrun starts them."""

    strategy: Literal["ddp", "fsdp"] = Field(
        default="ddp", description="whether each keeps the whole model or a share of it"
    )
    backend: Literal["auto", "nccl", "gloo"] = Field(
        default="auto", description="how tensors travel; defaults to what suits the device"
    )
    static_graph: bool = Field(default=False, description="each step uses the same parameters")
    find_unused_parameters: bool | None = Field(
        default=None, description="in each step; defaults to whether the first step has some"
    )
    overlap: bool | None = Field(
        default=None,
        description="send gradients while the backward pass goes on; by default unless "
        "trainer.compile is graphs",
    )

    @model_validator(mode="after")
    def _refuse_both(self) -> ProcessesConfig:
        if self.static_graph and self.find_unused_parameters:
            raise ValueError("static_graph and find_unused_parameters exclude each other")
        return self


class TrainerConfig(Section):
    """The loop itself."""

    max_epochs: Positive = 40
    batch_size: Positive = Field(default=32, description="of each process")
    device: str = "auto"
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    accumulate_steps: Positive = 1
    compile: Literal["default", "regional", "graphs"] | None = Field(
        default=None, description="what torch.compile makes of the model in a training step"
    )
    early_stopping: EarlyStoppingConfig | None = None
    processes: ProcessesConfig = ProcessesConfig()


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
    params: dict[str, Any] = Field(default={})


class SchedulerConfig(Section):
    """The learning rate over the run; warm-up is counted in optimizer steps."""

    name: str = "cosine"
    warmup_steps: Count = 0
    params: dict[str, Any] = Field(default={})


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
        if self.trainer.compile == "graphs":
            self.data.batching.share_shapes()
        return self

    @property
    def metric_names(self) -> list[str]:
        """What is measured: of several values to predict each error in its own unit."""
        label = self.data.label
        several = label if self.data.task == "regression" and isinstance(label, list) else ()
        return by_target(self.metrics, several)

    def plain(self) -> dict[str, Any]:
        """The configuration in plain types, as it is written to ``config.yaml``."""
        return self.model_dump(mode="json")
