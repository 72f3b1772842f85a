"""How a run begins: the first files of its folder, or the state of a cut run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import nn

from datasets.errors import file_errors
from datasets.files import PART_SUFFIX, write_whole
from datasets.splits import write_splits
from engine.checkpointing import OTHERS, CheckpointError, check_meta, newest_whole_checkpoint
from engine.distributed import broadcast_from_main, raise_on_all_ranks, world_size
from engine.optim import learning_rate, scale_learning_rate
from experiments.analysis import write_audit
from experiments.builders import Data, build_configured_optimizer, keep_budget
from experiments.config import (
    ATTACH,
    Change,
    Config,
    OptimizerConfig,
    changes_between,
    describe_changes,
    keep_automatic,
    load_config,
    refuse_changes,
    refuse_without_effect,
    training_settings,
    with_training_settings,
)
from experiments.launch import describe_environment, describe_group
from experiments.run_files import RunFile, digest, write_config

if TYPE_CHECKING:
    from datasets.audit import Finding
    from engine.trainer import Trainer

# Where a checkpoint's meta holds the settings that it was trained with.
SETTINGS = "settings"
# Changing these starts a handler's state anew: it counted something else.
STARTS_ANEW = {
    "trainer.early_stopping.monitor": "early_stopping",
    "trainer.early_stopping.mode": "early_stopping",
    "lr_scheduler.name": "lr_schedule",
}


@dataclass(frozen=True)
class Continuation:
    """Where a cut run is continued from, and with which other settings.

    ``path`` is the newest whole checkpoint, None where the run was cut before its first;
    ``skipped`` has a line on each that could not be read; ``before`` are all plain settings so far.
    """

    run_dir: Path
    path: Path | None
    states: dict[str, Any]
    meta: dict[str, Any]
    skipped: list[str]
    before: dict[str, Any]
    changes: list[Change]

    def changed(self, *keys: str) -> bool:
        """Whether any of these settings changed, or one under them."""
        return any(
            f"{change.key}.".startswith(f"{key}.") for change in self.changes for key in keys
        )

    @property
    def former_optimizer(self) -> OptimizerConfig | None:
        """The settings of the checkpoint's optimizer where its rates or groups are others now."""
        if self.path is None or not self.changed("optimizer", "lr_scheduler"):
            return None
        return OptimizerConfig.model_validate(self.before["optimizer"])


def find_continuation(run_dir: Path, config: Config) -> Continuation:
    """Read the checkpoint of a cut run, and refuse changes that cannot be honoured. Collective."""
    folder = run_dir / "checkpoints"
    path: Path | None = None
    content: dict[str, Any] = {"states": {}, "meta": {}}
    skipped: list[str] = []
    begun = broadcast_from_main(lambda: list(folder.glob("*.pt")))
    with raise_on_all_ranks():  # not every machine may see the folder
        if begun:
            path, content, skipped = newest_whole_checkpoint(folder)
        before, changes = changes_since(run_dir, config, content["meta"])
        refuse_changes(changes, run_dir, config.data.batching.kind == "bucket")
    meta = {name: value for name, value in content["meta"].items() if name != SETTINGS}
    return Continuation(run_dir, path, content["states"], meta, skipped, before, changes)


def changes_since(
    run_dir: Path, config: Config, meta: Mapping[str, Any]
) -> tuple[dict[str, Any], list[Change]]:
    """The plain settings so far, of training by a checkpoint's ``meta``; which differ now."""
    resolved = run_dir / RunFile.RESOLVED
    source = resolved if resolved.is_file() else run_dir / RunFile.CONFIG
    before = with_training_settings(load_config(str(source)).resolved(), meta.get(SETTINGS, {}))
    keep_budget(config, before, chosen_of(run_dir))
    keep_automatic(config, before)
    return before, changes_between(before, config.resolved())


def chosen_of(run_dir: Path) -> dict[str, Any]:
    """The settings that were chosen for a run, in plain types; others are null or empty."""
    return load_config(str(run_dir / RunFile.CONFIG)).plain()


def changes_of_finished(run_dir: Path, config: Config) -> list[Change]:
    """The settings that differ from those of a finished run."""
    try:
        meta = newest_whole_checkpoint(run_dir / "checkpoints")[1]["meta"]
    except CheckpointError:  # they may be removed once a run is finished
        meta = {}
    return changes_since(run_dir, config, meta)[1]


def run_identity(config: Config, data: Data, model: nn.Module) -> dict[str, Any]:
    """What a continued run must have in common with its checkpoint, in plain types."""
    version = data.version
    shapes = {name: list(tensor.shape) for name, tensor in model.state_dict().items()}
    return {
        "cohort": dict(version.files),
        "preparation": dict(version.preparation),
        "split": version.split,
        "model": {"name": config.model.name, "shapes": digest(shapes)},
        SETTINGS: training_settings(config),
    }


def resume_from(trainer: Trainer, continuation: Continuation, identity: Mapping[str, Any]) -> None:
    """Restore the checkpoint of a cut run under the new settings. Collective."""
    if continuation.path is None:
        return  # cut off before its first checkpoint: there is nothing to lose
    with raise_on_all_ranks():
        now = {name: value for name, value in identity.items() if name != SETTINGS}
        check_meta(continuation.meta, now)
    states = dict(continuation.states)
    for key, name in STARTS_ANEW.items():
        if continuation.changed(key):
            states.pop(name, None)
    for change in continuation.changes:
        followed = ("monitor", "mode") if change.key == "lr_scheduler.params" else ()
        if any(change.before.get(key) != change.now.get(key) for key in followed):
            states.pop("lr_schedule", None)
    kept = dict(trainer.stateful)
    if continuation.changed(*ATTACH, *STARTS_ANEW, "lr_scheduler.params"):
        kept = {name: thing for name, thing in kept.items() if name in states}
        states = {name: state for name, state in states.items() if name in (*kept, OTHERS)}
    if continuation.former_optimizer is None:
        trainer.restore(states, kept)
    else:
        # As the checkpoint's optimizer was built.
        former = build_configured_optimizer(continuation.former_optimizer, trainer.model)
        full_rate, built = learning_rate(former), len(former.param_groups)
        own = set(trainer.model.parameters())
        for group in trainer.optimizer.param_groups:
            if own.isdisjoint(group["params"]):  # a handler added it
                former.add_param_group(dict(group))
        for name, state in states.items():
            if isinstance(state, Mapping) and "snapshot" in state:
                # Its copy of the optimizer's memory is in the order of the former groups.
                states[name] = {**state, "snapshot": None}
        trainer.restore(states, {**kept, "optimizer": former})
        trainer.optimizer.state.update(former.state)
        if not continuation.changed("optimizer.lr"):
            # Where a handler has lowered the rate for good, it stays lowered.
            groups = former.param_groups[:built]
            rates = [float(group.get("initial_lr", group["lr"])) for group in groups]
            scale_learning_rate(trainer.optimizer, max(rates) / full_rate)
    if continuation.changes:
        # What nothing measures any more would stand unchanged beside every epoch to come.
        metrics, measured = trainer.state.metrics, trainer.provided_metrics
        trainer.state.metrics = {name: metrics[name] for name in metrics if name in measured}
    _refuse_where_nothing_is_trained(trainer, continuation)


def _refuse_where_nothing_is_trained(trainer: Trainer, continuation: Continuation) -> None:
    changes, run_dir = continuation.changes, continuation.run_dir
    done = trainer.epochs_done()
    budget = next((c.now for c in changes if c.key == "trainer.max_epochs"), None)
    budget = continuation.before["trainer"]["max_epochs"] if budget is None else budget
    if done >= budget:
        ended = f"its {done} epochs are trained; raise trainer.max_epochs beyond, or leave it out"
        refuse_without_effect(changes, run_dir, ended)
    stopping: Any = trainer.stateful.get("early_stopping")
    if stopping is not None and stopping.bad_epochs >= stopping.patience:
        rest = [c for c in changes if not c.key.startswith("trainer.early_stopping")]
        ended = "it stopped early; raise trainer.early_stopping.patience too, or leave it out"
        refuse_without_effect(rest, run_dir, ended)


def tell_continuation(trainer: Trainer, continuation: Continuation) -> None:
    """Log where a run continues, and its changed settings, when its training starts."""
    for line in continuation.skipped:
        trainer.log_event("checkpoint_skipped", reason=line)
    if continuation.path is not None:
        trainer.log_event(
            "resumed",
            checkpoint=continuation.path.name,
            epoch=trainer.state.epoch,
            iteration=trainer.state.iteration,
        )
    changes = continuation.changes
    if changes:
        saved_by = 1 + len(continuation.states.get(OTHERS, ()))
        if continuation.path is not None and saved_by == world_size():
            # The trainer itself tells of another accumulation.
            changes = [change for change in changes if change.key != "trainer.accumulate_steps"]
        trainer.log_event(
            "settings_changed",
            changes={c.key: [c.before, c.now] for c in continuation.changes},
            message=describe_changes(changes) if changes else "",
        )


# What a run writes before its configuration, by which it can be continued.
BEGINNING = {RunFile.ENVIRONMENT, RunFile.SPLITS, RunFile.AUDIT, RunFile.RESOLVED, RunFile.LOCK}


def holds_a_beginning(run_dir: Path) -> bool:
    """Whether a folder without ``config.yaml`` is of a run that was killed before writing it.

    It is empty, or has the lock's file, which a kill leaves behind, and nothing of a training.
    """
    names = {path.name for path in run_dir.iterdir() if not path.name.endswith(PART_SUFFIX)}
    return not names or (RunFile.LOCK in names and names <= BEGINNING)


def write_beginning(run_dir: Path, config: Config, data: Data, audit: Sequence[Finding]) -> None:
    """Write the files of a new run's folder before the training.

    ``config.yaml`` is written last: from then on the run can be continued.
    """
    with file_errors(f"cannot write to {run_dir}"):
        environment = describe_environment(data.version.plain(), describe_group(config.trainer))
        text = json.dumps(environment, indent=2, ensure_ascii=False) + "\n"
        write_whole(text.encode(), run_dir, RunFile.ENVIRONMENT)
        cohort = data.cohort
        write_splits(run_dir / RunFile.SPLITS, cohort.sample_ids, cohort.groups, data.split)
        if config.audit.enabled:
            write_audit(audit, run_dir)
        write_config(run_dir, config)
