"""Training settings that follow from the size of the cohort, unless the user chose them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from engine.metrics import LAST_EPOCH

if TYPE_CHECKING:
    from experiments.config import Config, Section

# Of a batch: this share of the training set, within bounds; larger batches leave too few steps.
BATCHES, SMALLEST_BATCH, LARGEST_BATCH = 16, 8, 64
FEWEST_EPOCHS, FEWEST_STEPS = 30, 600
WARMUP = 0.1
# Of early stopping, in optimizer steps.
PATIENCE_STEPS, FIRST_STEPS = 200, 300
# With fewer validation groups of a class (in all, of a regression) no epoch is selected by them.
FEWEST_GROUPS, FEWEST_GROUPS_OF_REGRESSION = 20, 50
EMA_DECAY = 0.99
AVERAGERS = ("ema", "swa")
# What is derived from the cohort: sections and fields, which are chosen or derived together.
DERIVED: Sequence[tuple[str, tuple[str, ...]]] = (
    ("trainer", ("batch_size",)),
    ("trainer", ("max_epochs",)),
    ("lr_scheduler", ("warmup_steps",)),
    ("trainer.early_stopping", ("patience",)),
    ("trainer.early_stopping", ("start_epoch",)),
    ("checkpoint", ("monitor", "mode")),
    ("ema", ("decay",)),
)


def derive_batch_size(config: Config, samples: int, processes: int = 1) -> None:
    """A power of two near a 16th of the training set, from 8 to 64, for all processes together."""
    if config.trainer.is_open("batch_size"):
        wanted = min(max(samples / BATCHES, SMALLEST_BATCH), LARGEST_BATCH)
        joint = 2 ** round(math.log2(wanted))
        config.trainer.derive("batch_size", max(1, joint // processes))


def derive_budget(config: Config, batches: int, val_groups: int, continued: bool = False) -> None:
    """Epochs, warm-up, early stopping and selection, where nothing was chosen.

    ``val_groups`` are of the validation set's rarest class, of a regression all. Of a ``continued``
    run only what is missing is derived.
    """

    def is_open(section: Section, name: str) -> bool:
        return getattr(section, name) is None if continued else section.is_open(name)

    trainer = config.trainer
    steps = math.ceil(batches / trainer.accumulate_steps)
    if is_open(trainer, "max_epochs"):
        trainer.derive("max_epochs", max(FEWEST_EPOCHS, math.ceil(FEWEST_STEPS / steps)))
    assert trainer.max_epochs is not None
    warmup, schedule = 0, config.lr_scheduler
    if schedule is not None:
        if is_open(schedule, "warmup_steps"):
            share = schedule.warmup
            if share is None:  # a one_cycle rises for its own pct_start
                share = 0.0 if schedule.name == "one_cycle" else WARMUP
            schedule.derive("warmup_steps", int(share * trainer.max_epochs * steps))
        warmup = schedule.warmup_steps or 0
    stopping = trainer.early_stopping
    if stopping is not None:
        if is_open(stopping, "patience"):
            stopping.derive("patience", math.ceil(PATIENCE_STEPS / steps))
        if is_open(stopping, "start_epoch"):
            stopping.derive("start_epoch", math.ceil(max(warmup, FIRST_STEPS) / steps))
    regression = config.data.task == "regression"
    if val_groups >= (FEWEST_GROUPS_OF_REGRESSION if regression else FEWEST_GROUPS):
        return
    if is_open(config.checkpoint, "monitor"):
        config.checkpoint.derive("monitor", LAST_EPOCH)
        config.checkpoint.derive("mode", "max")
        if config.ema.is_open("decay") and not any(h.name in AVERAGERS for h in config.handlers):
            config.ema.derive("decay", EMA_DECAY)


def keep_budget(config: Config, before: Mapping[str, Any], chosen: Mapping[str, Any]) -> None:
    """Take what was derived for a run when it began, for its continuation.

    ``before`` are all plain settings of the run so far, ``chosen`` those that were chosen.
    """
    for place, names in DERIVED:
        section: Any = config
        former: Any = before
        own: Any = chosen
        for key in place.split("."):
            section = getattr(section, key, None)
            former, own = (former or {}).get(key), (own or {}).get(key)
        first = names[0]
        if section is None or former is None or not section.is_open(first):
            continue
        # Of other keys null means what follows from the cohort.
        switched_off = place == "ema" and config.is_null(f"{place}.{first}")
        if (own or {}).get(first) is None and not switched_off:
            for name in names:
                section.derive(name, former[name])


def about_budget(config: Config, batches: int) -> str:
    """One line on the derived settings; empty if all were chosen."""
    derived = config.derived()
    steps = math.ceil(batches / config.trainer.accumulate_steps)
    told = []
    if "trainer.batch_size" in derived:
        told.append(f"batches of {config.trainer.batch_size}")
    if "trainer.max_epochs" in derived:
        epochs = config.trainer.max_epochs or 0
        told.append(f"{epochs} epochs of {steps} steps")
    if derived.get("lr_scheduler.warmup_steps"):
        told.append(f"{derived['lr_scheduler.warmup_steps']} steps of warm-up")
    if "trainer.early_stopping.patience" in derived:
        told.append(f"patience of {derived['trainer.early_stopping.patience']} epochs")
    if derived.get("checkpoint.monitor") == LAST_EPOCH:
        told.append(
            "few validation groups, so no epoch is selected: the last one's weights"
            + (", averaged" if "ema.decay" in derived else "")
        )
    return f"by the size of the cohort: {'; '.join(told)}" if told else ""
