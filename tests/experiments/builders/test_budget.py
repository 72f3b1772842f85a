"""Batch size, epochs, warm-up and selection follow from the cohort, unless the user chose them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from experiments.builders import about_budget, derive_budget, keep_budget
from experiments.builders.budget import derive_batch_size
from experiments.config import Config, check_config

EARLY: dict[str, Any] = {"trainer": {"early_stopping": {}}}


@pytest.mark.parametrize(
    ("samples", "expected"), [(5, 8), (40, 8), (280, 16), (630, 32), (1500, 64), (40_000, 64)]
)
def test_the_batch_is_a_sixteenth_within_bounds(samples: int, expected: int) -> None:
    config = check_config({})
    derive_batch_size(config, samples)
    assert config.trainer.batch_size == expected


def test_processes_share_the_batch() -> None:
    config = check_config({})
    derive_batch_size(config, 630, processes=4)
    assert config.trainer.batch_size == 8


@pytest.mark.parametrize(("batches", "epochs"), [(1, 600), (4, 150), (20, 30), (437, 30)], ids=str)
def test_a_small_cohort_has_more_epochs(batches: int, epochs: int) -> None:
    config = check_config({})
    derive_budget(config, batches, val_groups=100)
    assert config.trainer.max_epochs == epochs
    assert config.lr_scheduler is not None
    assert config.lr_scheduler.warmup_steps == int(0.1 * epochs * batches)


def test_accumulation_counts_steps_not_batches() -> None:
    config = check_config({"trainer": {"accumulate_steps": 4}})
    derive_budget(config, 8, val_groups=100)
    assert config.trainer.max_epochs == 300


def test_stopping_waits_for_the_warmup_and_300_steps() -> None:
    config = check_config(EARLY)
    derive_budget(config, 4, val_groups=100)
    stopping = config.trainer.early_stopping
    assert stopping is not None
    assert (stopping.patience, stopping.start_epoch) == (50, 75)
    long = check_config({**EARLY, "lr_scheduler": {"warmup_steps": 500}})
    derive_budget(long, 10, val_groups=100)
    assert long.trainer.early_stopping is not None
    assert long.trainer.early_stopping.start_epoch == 50


@pytest.mark.parametrize(("chosen", "steps"), [({}, 0), ({"warmup": 0.2}, 120)], ids=["own", "set"])
def test_a_one_cycle_rises_for_its_own_share(chosen: dict[str, Any], steps: int) -> None:
    config = check_config({"lr_scheduler": {"name": "one_cycle", **chosen}})
    derive_budget(config, 20, val_groups=100)
    assert config.lr_scheduler is not None
    assert config.lr_scheduler.warmup_steps == steps


def test_few_validation_groups_select_no_epoch() -> None:
    config = check_config({})
    derive_budget(config, 10, val_groups=19)
    assert (config.checkpoint.monitor, config.checkpoint.mode) == ("last", "max")
    assert config.ema.decay == 0.99
    enough = check_config({})
    derive_budget(enough, 10, val_groups=20)
    assert (enough.checkpoint.monitor, enough.ema.decay) == ("val/auroc", None)


def test_a_regression_needs_50_validation_groups() -> None:
    values = {"data": {"task": "regression", "label": "age"}}
    few, enough = check_config(values), check_config(values)
    derive_budget(few, 10, val_groups=49)
    derive_budget(enough, 10, val_groups=50)
    assert (few.checkpoint.monitor, enough.checkpoint.monitor) == ("last", "val/mae")


def test_chosen_values_stay() -> None:
    chosen = {
        "trainer": {
            "max_epochs": 2,
            "batch_size": 3,
            "early_stopping": {"patience": 4, "start_epoch": 0},
        },
        "lr_scheduler": {"warmup_steps": 5},
        "checkpoint": {"monitor": "val/loss"},
        "ema": {"decay": 0.5},
    }
    config = check_config(chosen)
    before = config.resolved()
    derive_batch_size(config, 630)
    derive_budget(config, 1, val_groups=1)
    assert config.resolved() == before
    assert about_budget(config, 1) == ""


def test_an_averaging_handler_is_enough() -> None:
    config = check_config({"handlers": ["swa"]})
    derive_budget(config, 10, val_groups=1)
    assert config.checkpoint.monitor == "last"
    assert config.ema.decay is None


def test_what_is_derived_is_not_saved_as_chosen() -> None:
    config = check_config({})
    derive_batch_size(config, 40)
    derive_budget(config, 5, val_groups=3)
    assert config.plain()["trainer"]["max_epochs"] is None
    assert config.resolved()["trainer"]["max_epochs"] == 120
    again = check_config(config.plain())
    derive_batch_size(again, 630)
    assert again.trainer.batch_size == 32


def test_a_continued_run_keeps_its_budget() -> None:
    begun = check_config(EARLY)
    derive_batch_size(begun, 40)
    derive_budget(begun, 5, val_groups=3)
    before = begun.resolved()
    now = check_config(begun.plain())
    keep_budget(now, before, begun.plain())
    assert now.resolved() == before
    changed = check_config({**begun.plain(), "checkpoint": {"monitor": "val/loss"}})
    keep_budget(changed, before, begun.plain())
    assert changed.checkpoint.monitor == "val/loss"
    assert changed.trainer.max_epochs == before["trainer"]["max_epochs"]


def test_the_derived_numbers_are_told_in_one_line() -> None:
    config = check_config({})
    derive_batch_size(config, 40)
    derive_budget(config, 5, val_groups=3)
    assert about_budget(config, 5) == (
        "by the size of the cohort: batches of 8; 120 epochs of 5 steps; 60 steps of warm-up; few "
        "validation groups, so no epoch is selected: the last one's weights, averaged"
    )


def test_a_run_resumes_with_the_budget_it_began_with(
    make_config: Callable[..., Config],
    settings: dict[str, Any],
    capsys: pytest.CaptureFixture[str],
) -> None:
    from experiments.config import load_config
    from experiments.runs import Experiment, run_all_stages

    settings["trainer"].pop("batch_size")
    first = Experiment(make_config(**{"lr_scheduler.warmup": 0.2, "report.enabled": False}))
    first.run()
    assert first.config.trainer.batch_size == 8
    assert first.config.checkpoint.monitor == "last"
    saved = load_config(str(first.run_dir / "config.yaml"))
    assert saved.trainer.batch_size is None
    assert run_all_stages(saved, first.run_dir) == 0
    assert "is finished: nothing to continue" in capsys.readouterr().out
    text = (first.run_dir / "summary.md").read_text()
    assert "Of the last epoch" in text
    assert f"epoch={first.trainer.state.epoch:03d}" in str(
        sorted((first.run_dir / "checkpoints").glob("epoch=*"))[-1]
    )


def test_an_average_that_was_derived_can_be_switched_off(
    make_config: Callable[..., Config], capsys: pytest.CaptureFixture[str]
) -> None:
    from experiments.config import load_config
    from experiments.runs import Experiment

    changes = {"checkpoint.every_steps": 1, "report.enabled": False, "audit.enabled": False}
    first = Experiment(make_config(**changes))
    first.setup()
    assert first.config.ema.decay == 0.99
    first.train()
    first.close()
    source = str(first.run_dir / "config.yaml")
    kept = load_config(source, [("trainer.max_epochs", "3")]).accepting(["batch"])
    off = load_config(source, [("trainer.max_epochs", "3"), ("ema.decay", "null")])
    off = off.accepting(["batch"])
    for config, decay in ((kept, 0.99), (off, None)):
        keep_budget(config, first.config.resolved(), load_config(source).plain())
        assert config.ema.decay == decay
    off = load_config(source, [("trainer.max_epochs", "3"), ("ema.decay", "null")])
    again = Experiment(off, first.run_dir)
    again.setup()
    again.train()
    again.close()
    assert again.handlers.averager is None
    assert "ema.decay none (before: 0.99)" in capsys.readouterr().out
    # From then on without a word.
    last = Experiment(load_config(source, [("trainer.max_epochs", "4")]), first.run_dir)
    last.setup()
    last.train()
    last.close()
    assert last.handlers.averager is None
    assert "ema.decay" not in capsys.readouterr().out
