"""The schema of a configuration: every key, its type, its default and what it means."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BeforeValidator,
    Discriminator,
    Field,
    PrivateAttr,
    Tag,
    ValidationError,
    field_validator,
    model_validator,
)

from engine.metrics import TASKS, Mode, better_when, by_target
from engine.optim import SCHEDULES, TAKEN_BY
from experiments.config.automatic import AUTOMATIC
from experiments.config.components import (
    ComponentConfig,
    Count,
    Number,
    Params,
    Place,
    Positive,
    Section,
    Seed,
    Text,
    Texts,
    is_path,
    metric_name,
    one_of,
    several,
    split_entry,
)
from experiments.config.data import SHARED_ROWS, SHARED_SCANS, DataConfig
from experiments.config.report import (
    AuditConfig,
    BaselinesConfig,
    ReportConfig,
    ThresholdConfig,
)

# Beyond these no network has been trained; a comma was forgotten.
Rate = Annotated[Number, Field(gt=0, le=100)]
Decay = Annotated[Number, Field(ge=0, le=100)]
Factor = Annotated[Number, Field(ge=0, le=1e6)]
# All train side by side.
Members = Annotated[Count, Field(ge=1, le=100)]
# The model whose members are models.
ENSEMBLE = "ensemble"
# Numbers, suffixes and the names of folds are added to a run's name, and a file name has 255 bytes.
LONGEST_EXP_NAME = 160


class TermConfig(ComponentConfig):
    """A term of the loss ``weighted``; ``loss.params.terms`` maps names to them."""

    weight: Factor = 1.0
    on: Text | None = Field(default=None, description="the model's output to read, not its logits")
    optional: bool = Field(default=False, description="left out where the model has no such output")


def _several(count: int, name: str) -> str:
    return name if count == 1 else f"{count} x {name}"


class MemberConfig(ComponentConfig):
    """A member of an ensemble: a model, or a classical one that is linear or of extra trees."""

    members: Members = Field(default=1, description="networks of different initial weights")


class ModelConfig(ComponentConfig):
    """The network, how many of it, and what it stands on."""

    members: Annotated[
        Annotated[Members, Tag("number")] | Annotated[list[MemberConfig], Tag("list")],
        # Else an error in a list would be told as that of a number.
        Discriminator(lambda given: "list" if isinstance(given, list) else "number"),
    ] = Field(
        default=1,
        description="networks of different initial weights, whose logits are averaged; "
        f"of an {ENSEMBLE} a list of models",
    )
    linear_path: bool = Field(
        default=False,
        description="whether the network learns what a regularised linear model leaves",
    )

    @property
    def title(self) -> str:
        """The name, with how many networks there are and what they stand on.

        Example:
            >>> ModelConfig(name="tft", members=3, linear_path=True).title
            '3 x tft on a linear model'
        """
        if isinstance(self.members, list):
            return f"{self.name} of {', '.join(_several(m.members, m.name) for m in self.members)}"
        found = _several(self.members, self.name)
        return f"{found} on a linear model" if self.linear_path else found

    @model_validator(mode="after")
    def _ensemble_has_members(self) -> ModelConfig:
        if self.name == AUTOMATIC:
            for key, field in type(self).model_fields.items():
                if key != "name" and getattr(self, key) != field.default:
                    told = f"{key}: the model '{AUTOMATIC}' is chosen as a whole; leave it out"
                    raise ValueError(told)
        listed = isinstance(self.members, list)
        if listed != (self.name == ENSEMBLE):
            has = "has a list of members" if self.name == ENSEMBLE else "has a number of members"
            raise ValueError(f"members: the model '{self.name}' {has}")
        if listed and self.linear_path:
            raise ValueError(
                f"linear_path: an {ENSEMBLE} has linear models as members, such as spectra_logistic"
            )
        if self.members == []:
            raise ValueError(f"members: an {ENSEMBLE} needs at least one")
        return self


class LossConfig(Section):
    """The loss, unless the model brings its own."""

    name: Text | None = Field(
        default=None, description="defaults to what suits the task and the model"
    )
    params: Params = Field(default={})


class MonitorConfig(Section):
    """What says which epoch is the better one."""

    monitor: Text | None = Field(default=None, description="defaults to what suits the task")
    mode: Mode | None = Field(default=None, description="defaults to what suits the monitor")

    def fill(self, key: str, task: str, labels: int) -> None:
        """Choose what was not chosen; ``labels`` columns hold labels or values."""
        if self.monitor is None:
            default = TASKS["binary" if task == "auto" else task]
            monitor, mode = default.monitor, default.mode
            if task == "regression" and labels > 1:
                # Errors in unlike units have no mean that means anything.
                monitor, mode = "val/r2", "max"
            if self.mode not in (None, mode):
                raise ValueError(
                    f"{key}.mode: '{self.mode}' does not suit the default monitor, "
                    f"'{monitor}'; set {key}.monitor too"
                )
            self.derive("monitor", monitor)
        better = better_when(str(self.monitor))
        if self.mode is None and better is not None:
            self.derive("mode", better)


class EarlyStoppingConfig(MonitorConfig):
    """Stop when a metric no longer improves."""

    patience: Positive | None = Field(default=None, description="in epochs; defaults to 200 steps")
    cooldown: Count = 0
    min_delta: Factor = 0.0
    relative: bool = False
    start_epoch: Count | None = Field(
        default=None, description="defaults to the end of the warm-up, at least 300 steps"
    )


class ProcessesConfig(Section):
    """How several processes train together, where torchrun starts them; or one on several GPUs."""

    strategy: Literal["ddp", "fsdp", "dp"] = Field(
        default="ddp",
        description="whether each keeps the whole model or a share of it; dp: one, all GPUs",
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
        if self.strategy == "dp":
            for key, field in type(self).model_fields.items():
                if key != "strategy" and getattr(self, key) != field.default:
                    raise ValueError(
                        f"strategy dp is of one process and has no {key}; leave it out"
                    )
        return self


class TrainerConfig(Section):
    """The loop itself."""

    max_epochs: Positive | None = Field(
        default=None, description="defaults to 30, and to more if these have fewer than 600 steps"
    )
    batch_size: Positive | None = Field(
        default=None, description="of each process; defaults to a 16th of the training set, 8 to 64"
    )
    device: Text = "auto"
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    grad_clip: Annotated[Number, Field(gt=0, le=1e6)] | None = 1.0
    accumulate_steps: Positive = 1
    deterministic: bool = Field(
        default=False, description="deterministic algorithms only, also on a GPU"
    )
    compile: Literal["default", "regional", "graphs"] | None = Field(
        default=None, description="what torch.compile makes of the model in a training step"
    )
    refit: bool = Field(
        default=False,
        description="after the selection train anew on the training and validation sets, for as "
        "many epochs as up to the selected one",
    )
    early_stopping: EarlyStoppingConfig | None = None
    processes: ProcessesConfig = ProcessesConfig()

    @model_validator(mode="after")
    def _refuse_compiled_replicas(self) -> TrainerConfig:
        if self.compile is not None and self.processes.strategy == "dp":
            raise ValueError(
                "compile and processes.strategy dp exclude each other; leave one out, or use ddp"
            )
        return self


def _refuse_fields(section: OptimizerConfig | SchedulerConfig) -> Any:
    """Refuse parameters that the section sets by keys of its own."""
    for key in section.params:
        if key in type(section).model_fields:
            raise ValueError(f"params.{key} would be a second value for {key}; set {key} alone")
    return section


class GroupConfig(Section):
    """Other settings for the parameters whose names match."""

    match: Text | Texts
    lr_scale: Factor = 1.0
    weight_decay: Decay | None = None


class OptimizerConfig(Section):
    """The optimiser."""

    name: Text = "adamw"
    lr: Rate = 3e-4
    weight_decay: Decay = 0.01
    layer_decay: Annotated[Number, Field(gt=0, le=1)] | None = Field(
        default=None, description="factor of the rate from a layer to the one below it"
    )
    groups: list[GroupConfig] = Field(default=[], description="rates and decay by name")
    params: Params = Field(default={})

    _refuse_two_values = model_validator(mode="after")(_refuse_fields)


class SchedulerConfig(Section):
    """The learning rate over the run."""

    name: Annotated[Text, one_of(SCHEDULES, "no schedule")] = "cosine"
    warmup: Annotated[Number, Field(ge=0, lt=1)] | None = Field(
        default=None,
        description="share of the run's steps, unless warmup_steps is set; defaults to 0.1, and to "
        "pct_start of one_cycle",
    )
    warmup_steps: Count | None = Field(default=None, description="defaults to what warmup gives")
    params: Params = Field(default={})

    _refuse_two_values = model_validator(mode="after")(_refuse_fields)

    @model_validator(mode="after")
    def _refuse_without_effect(self) -> SchedulerConfig:
        for key in self.params:
            takers = TAKEN_BY.get(key, SCHEDULES)
            if self.name not in takers:
                raise ValueError(
                    f"params.{key} has no effect on '{self.name}', only on {', '.join(takers)}"
                )
        if self.params.get("step_size") is not None and "step_epochs" in self.params:
            raise ValueError(
                "params.step_epochs has no effect beside params.step_size; leave one out"
            )
        return self


class CheckpointConfig(MonitorConfig):
    """Which checkpoints to keep."""

    save_top_k: Count = 3
    save_last: bool = True
    every_epochs: Positive = 1
    every_steps: Positive | None = Field(default=None, description="last.pt within an epoch too")
    keep_every_epochs: Positive | None = Field(default=None, description="kept for good")


class EmaConfig(Section):
    """Averaged weights, used for validation and test where ``decay`` is set."""

    decay: Annotated[Number, Field(gt=0, lt=1)] | None = Field(
        default=None, description="defaults to 0.99 if no epoch is selected"
    )
    warmup: bool = True


class LogConfig(Section):
    """What the log holds beside the epochs."""

    every_steps: Count = Field(
        default=0, description="a line for each so many optimizer steps; 0 for none"
    )


class Config(Section):
    """A whole configuration."""

    exp_name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.+-]*$")] = "experiment"
    runs_dir: Place = Path("runs")
    seed: Seed = 0
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig(name="tft")
    loss: LossConfig = LossConfig()
    metrics: Annotated[list[Text | ComponentConfig], BeforeValidator(several)] = Field(
        default=[],
        description="names, or dotted paths to metrics of one's own; defaults to all that fit",
    )
    trainer: TrainerConfig = TrainerConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    lr_scheduler: SchedulerConfig | None = SchedulerConfig()
    checkpoint: CheckpointConfig = CheckpointConfig()
    ema: EmaConfig = EmaConfig()
    log: LogConfig = LogConfig()
    handlers: Annotated[list[ComponentConfig], BeforeValidator(several)] = Field(
        default=[], description="further handlers"
    )
    report: ReportConfig = ReportConfig()
    audit: AuditConfig = AuditConfig()
    baselines: BaselinesConfig = BaselinesConfig()

    # Keys that the command line sets to null: chosen, where a file's null leaves them open.
    _nulls: frozenset[str] = PrivateAttr(default=frozenset())

    def with_nulls(self, keys: Iterable[str]) -> Config:
        """Note which keys the command line sets to null."""
        self._nulls = frozenset(keys)
        return self

    def is_null(self, key: str) -> bool:
        """Whether the command line sets a key to null."""
        return key in self._nulls

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Config:
        """A checked copy with other values; what follows from them is derived anew."""
        return super().model_copy(update=update, deep=deep).with_nulls(self._nulls)

    @field_validator("exp_name")
    @classmethod
    def _short_enough(cls, name: str) -> str:
        length = len(name.encode())
        if length > LONGEST_EXP_NAME:
            raise ValueError(f"has {length} bytes, at most {LONGEST_EXP_NAME} make a file name")
        return name

    @model_validator(mode="after")
    def _check_threshold_and_handlers(self) -> Config:
        rule = self.report.threshold.rule
        if self.data.task == "regression" and rule != ThresholdConfig().rule:
            raise ValueError(f"report.threshold.rule: '{rule}' is for classes, not for regression")
        for number, handler in enumerate(self.handlers):
            if handler.name == "lr_schedule":
                params = dict(handler.params)
                own = {k: params.pop(k) for k in ("name", "warmup_steps") if k in params}
                try:
                    SchedulerConfig(**own, params=params)
                except ValidationError as error:
                    reason = error.errors()[0]["msg"].removeprefix("Value error, ")
                    raise ValueError(f"handlers.{number}.{reason}") from error
        return self

    @model_validator(mode="after")
    def _ask_for_modes(self) -> Config:
        """Of a metric of the user's own it is not known whether larger is better."""
        own = [f"val/{metric_name(e)}" for e in self.metrics if is_path(split_entry(e)[0])]
        followed = {"checkpoint": dict(self.checkpoint)}
        if self.trainer.early_stopping is not None:
            followed["trainer.early_stopping"] = dict(self.trainer.early_stopping)
        if self.lr_scheduler is not None:
            followed["lr_scheduler.params"] = self.lr_scheduler.params
        followed |= {f"handlers.{n}.params": h.params for n, h in enumerate(self.handlers)}
        for key, settings in followed.items():
            monitor = settings.get("monitor")
            if monitor in own and settings.get("mode") is None:
                raise ValueError(
                    f"{key}.monitor: of '{monitor}' it is not known whether larger is better: set "
                    f"{key}.mode to max or min"
                )
        return self

    @property
    def metric_names(self) -> list[str]:
        """What the metrics are called in logs, tables and pages; of several values each error."""
        label = self.data.label
        several = label if self.data.task == "regression" and isinstance(label, list) else ()
        return by_target([metric_name(entry) for entry in self.metrics], several)

    def accepting(self, names: Sequence[str]) -> Config:
        """A copy that accepts further findings of the audit."""
        accepted = list(dict.fromkeys([*self.audit.accept, *names]))
        return self.model_copy(update={"audit": self.audit.model_copy(update={"accept": accepted})})

    @model_validator(mode="after")
    def _fill_what_follows(self) -> Config:
        data, loss = self.data, self.loss
        if loss.name is None:
            has_heads = self.model.name in WITH_AUXILIARY_HEADS
            name, params = default_loss(data.task, has_heads, loss.params)
            loss.derive("name", name)
            loss.derive("params", params)
        if not self.metrics:
            task = TASKS["binary" if data.task == "auto" else data.task]
            self.derive("metrics", list(task.metrics))
        labels = len(data.label) if isinstance(data.label, list) else 1
        self.checkpoint.fill("checkpoint", data.task, labels)
        if self.trainer.early_stopping is not None:
            self.trainer.early_stopping.fill("trainer.early_stopping", data.task, labels)
        if self.data.split.seed is None:
            self.data.split.derive("seed", self.seed)
        if self.trainer.compile == "graphs":
            # Batches share a few shapes, unless it is set which.
            shared = {"pad_rows_to": SHARED_ROWS, "pad_scans_to": SHARED_SCANS}
            for key, number in shared.items():
                if getattr(data.batching, key) is None:
                    data.batching.derive(key, number)
        return self


# Models with a head on each modality, which only a loss with terms for them trains.
WITH_AUXILIARY_HEADS = frozenset({"tft", "attention", "late_fusion"})
PLAIN = {"multilabel": "bce", "regression": "mse"}
WEIGHTED = "weighted"
# As in the multimodal transformer's own loss, models.tft_loss.TFTLoss.
AUXILIARY_WEIGHT, CONTRASTIVE_WEIGHT = 0.3, 0.02
AUXILIARY_TERMS = {"aux_spec_loss": "aux_logits_spec", "aux_tab_loss": "aux_logits_tab"}


def default_loss(
    task: str, has_heads: bool, params: Mapping[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Choose a loss, by its name and parameters.

    Of classes it is ``tft`` for the models with auxiliary heads, else ``cross_entropy``. Of labels
    it is ``bce``, of values ``mse``; with auxiliary heads the same on each of them too, and spectra
    against covariates where the model projects both. ``params`` are of the main and auxiliary
    terms, or ``terms`` themselves.
    """
    params = dict(params)
    if "terms" in params:
        return WEIGHTED, params
    if task not in PLAIN:
        return ("tft" if has_heads else "cross_entropy"), params
    plain = PLAIN[task]
    if not has_heads:
        return plain, params
    terms: dict[str, Any] = {"main_loss": {"name": plain, "params": params}}
    for name, output in AUXILIARY_TERMS.items():
        own = {"on": output, "weight": AUXILIARY_WEIGHT, "params": dict(params)}
        terms[name] = {"name": plain, **own}
    contrastive = {"name": "info_nce", "weight": CONTRASTIVE_WEIGHT, "optional": True}
    terms["contrastive_loss"] = {**contrastive, "params": {"projections_only": True}}
    return WEIGHTED, {"terms": terms}
