"""A run that is continued with other settings, or may not be."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from datasets.errors import UsageError
from engine.checkpointing import load_checkpoint, save_checkpoint
from engine.reporting import read_log
from experiments.config import check_config, load_config, read_yaml, write_yaml
from experiments.run import main
from experiments.runs import Experiment

pytestmark = pytest.mark.slow

EPOCHS, BATCHES = 3, 5


def small(cohort_dir, runs_dir):
    return {
        "exp_name": "small",
        "runs_dir": str(runs_dir),
        "data": {"root": str(cohort_dir), "labels": {"control": 0, "case": 1}},
        "model": {"name": "mean_linear"},
        "trainer": {"max_epochs": EPOCHS, "batch_size": 9, "device": "cpu"},
        "optimizer": {"lr": 0.01},
        "lr_scheduler": {"warmup": 0},
        "checkpoint": {"monitor": "val/auroc"},
        "report": {"enabled": False, "resamples": 0},
        "audit": {"enabled": False},
        "baselines": {"enabled": False},
    }


def train(config, run_dir=None, stop_at=None):
    """Train as far as an iteration; the run's experiment."""
    experiment = Experiment(config, run_dir)
    experiment.setup()
    if stop_at is not None:

        @experiment.trainer.on(Events.ITERATION_COMPLETED)
        def stop(trainer):
            if trainer.state.iteration == stop_at:
                trainer.terminate()

    experiment.train()
    experiment.close()
    return experiment


@pytest.fixture(scope="module")
def trained(tmp_path_factory, cohort_dir):
    """A run whose three epochs are trained, and which was cut before its test."""
    runs = tmp_path_factory.mktemp("runs")
    return train(check_config(small(cohort_dir, runs))).run_dir


@pytest.fixture
def run_dir(trained, tmp_path) -> Path:
    """A copy of it to continue."""
    return Path(shutil.copytree(trained, tmp_path / "runs" / "small"))


def resume(run_dir, **changes):
    """Continue with other settings, given as on the command line."""
    overrides = [(key.replace("__", "."), str(value)) for key, value in changes.items()]
    return train(load_config(str(run_dir / "config.yaml"), overrides), run_dir)


def content(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def rates(run_dir):
    rows = read_log(run_dir / "log.jsonl")
    return [row["metrics"]["lr"] for row in rows if row["event"] == "epoch"]


def used(run_dir):
    return read_yaml((run_dir / "config.yaml").read_text(), "config.yaml")


# -- honoured -----------------------------------------------------------------------------------


@pytest.mark.parametrize("schedule", ["constant", "cosine"])
def test_another_rate_and_decay_are_used_at_once(cohort_dir, tmp_path, schedule, capsys):
    settings = small(cohort_dir, tmp_path) | {"lr_scheduler": {"name": schedule, "warmup": 0}}
    cut = train(check_config(settings))
    capsys.readouterr()
    again = resume(
        cut.run_dir, trainer__max_epochs=6, optimizer__lr=1e-4, optimizer__weight_decay=0.5
    )
    share = {"constant": 1.0, "cosine": 0.5 * (1 + math.cos(math.pi * 4 / 6))}[schedule]
    assert rates(cut.run_dir)[3] == pytest.approx(1e-4 * share)
    groups = {group["name"]: group for group in again.trainer.optimizer.param_groups}
    assert groups["decay"]["weight_decay"] == 0.5
    assert groups["no_decay"]["weight_decay"] == 0
    assert all(group["initial_lr"] == 1e-4 for group in groups.values())
    assert used(cut.run_dir)["optimizer"]["lr"] == 1e-4
    said = [line for line in capsys.readouterr().out.splitlines() if "continued with" in line]
    assert said == [
        "continued with trainer.max_epochs 6 (before: 3), optimizer.lr 0.0001 (before: 0.01), "
        "optimizer.weight_decay 0.5 (before: 0.01)"
    ]


def test_the_optimizers_memory_survives_other_groups(run_dir):
    before = load_checkpoint(run_dir / "checkpoints" / "last.pt")["states"]["optimizer"]
    assert len(before["param_groups"]) == 2
    experiment = Experiment(
        load_config(
            str(run_dir / "config.yaml"),
            [
                ("trainer.max_epochs", "4"),
                ("optimizer.weight_decay", "0"),  # one group, where there were two
                ("optimizer.groups", "[{match: '*bias', lr_scale: 0.1}]"),
            ],
        ),
        run_dir,
    )
    experiment.setup()
    optimizer = experiment.trainer.optimizer
    names = {p: name for name, p in experiment.trainer.model.named_parameters()}
    scales = {names[p]: g["lr"] / 0.01 for g in optimizer.param_groups for p in g["params"]}
    for name, scale in scales.items():
        assert scale == pytest.approx(0.1 if name.endswith("bias") else 1.0)
    kept = torch.cat([state["exp_avg"].flatten() for state in before["state"].values()])
    now = torch.cat([state["exp_avg"].flatten() for state in optimizer.state.values()])
    assert torch.equal(kept.sort().values, now.sort().values)
    for parameter, state in optimizer.state.items():
        assert state["exp_avg"].shape == parameter.shape
    experiment.train()
    experiment.close()


def test_a_lowered_rate_stays_lowered_below_a_new_schedule(run_dir):
    last = run_dir / "checkpoints" / "last.pt"
    saved = load_checkpoint(last)
    for group in saved["states"]["optimizer"]["param_groups"]:
        group["initial_lr"] *= 0.5  # as nan_guard does when it rolls back
    save_checkpoint(last, saved["states"], saved["meta"])
    resume(run_dir, trainer__max_epochs=4, lr_scheduler__name="constant")
    assert rates(run_dir)[-1] == pytest.approx(0.005)


def test_a_schedule_can_be_left_out(run_dir):
    again = resume(run_dir, trainer__max_epochs=4, lr_scheduler="null")
    assert {group["lr"] for group in again.trainer.optimizer.param_groups} == {0.01}
    assert "lr" not in again.trainer.state.metrics


@pytest.mark.parametrize("mid_epoch", [False, True])
def test_with_another_accumulation_steps_are_counted_anew(cohort_dir, tmp_path, mid_epoch):
    config = check_config(small(cohort_dir, tmp_path))
    cut = train(config, stop_at=2 * BATCHES + 2 if mid_epoch else 2 * BATCHES)
    again = resume(cut.run_dir, trainer__accumulate_steps=3, trainer__max_epochs=4)
    state = again.trainer.state
    assert state.iteration == 4 * BATCHES
    assert state.optimizer_step == 4 * math.ceil(BATCHES / 3)
    told = [row.get("message") for row in read_log(cut.run_dir / "log.jsonl")]
    assert sum("accumulate_steps" in (line or "") for line in told) == 0
    assert sum("3 batches a step, before 1" in (line or "") for line in told) == 1
    half = 0.01 * 0.5 * (1 + math.cos(math.pi * 6 / 8))
    assert rates(cut.run_dir)[2:] == pytest.approx([half, 0.0], abs=1e-9)


def test_checkpoints_by_steps_go_on_after_another_accumulation(cohort_dir, tmp_path):
    settings = small(cohort_dir, tmp_path) | {"checkpoint": {"every_steps": 2, "every_epochs": 9}}
    cut = train(check_config(settings))
    resume(cut.run_dir, trainer__accumulate_steps=2, trainer__max_epochs=6)
    rows = read_log(cut.run_dir / "log.jsonl")
    saved = [r["iteration"] for r in rows if r["event"] == "checkpoint_saved"]
    assert len([iteration for iteration in saved if iteration > 3 * BATCHES]) >= 3


def test_averaging_can_begin_later(run_dir):
    again = resume(run_dir, trainer__max_epochs=5, ema__decay=0.9)
    assert again.handlers.averager.updates == 2 * BATCHES
    states = load_checkpoint(run_dir / "checkpoints" / "last.pt")["states"]
    assert states["ema"]["updates"] == 2 * BATCHES
    again.test()


def test_a_best_epoch_before_averaging_is_measured_without(run_dir):
    best = run_dir / "checkpoints" / "best.pt"
    kept = best.read_bytes()
    again = resume(run_dir, trainer__max_epochs=4, ema__decay=0.9)
    best.write_bytes(kept)
    again.validate()
    for name, weight in again.trainer.model.state_dict().items():
        assert torch.equal(weight, load_checkpoint(best)["states"]["model"][name])
    assert again.handlers.averager is None


def test_a_best_epoch_of_an_average_is_measured_averaged(cohort_dir, tmp_path):
    settings = small(cohort_dir, tmp_path) | {"ema": {"decay": 0.9}}
    cut = train(check_config(settings))
    best = cut.run_dir / "checkpoints" / "best.pt"
    kept = best.read_bytes()
    again = resume(cut.run_dir, trainer__max_epochs=4, ema__decay="null")
    best.write_bytes(kept)
    again.validate()
    average = load_checkpoint(best)["states"]["ema"]["average"]
    for name, weight in again.trainer.model.named_parameters():
        assert torch.equal(weight.detach(), average[name])


def test_early_stopping_begins_later_and_has_a_say(run_dir):
    stopping = "{monitor: val/loss, patience: 1, min_delta: 100, start_epoch: 0}"
    resume(run_dir, trainer__max_epochs=9, trainer__early_stopping=stopping)
    rows = read_log(run_dir / "log.jsonl")
    assert [row["epoch"] for row in rows if row["event"] == "early_stopped"] == [5]


def test_another_monitor_of_early_stopping_is_counted_anew(cohort_dir, tmp_path):
    settings = small(cohort_dir, tmp_path)
    settings["trainer"] |= {"early_stopping": {"monitor": "val/loss", "patience": 50}}
    cut = train(check_config(settings))
    again = resume(
        cut.run_dir, trainer__max_epochs=4, trainer__early_stopping__monitor="val/accuracy"
    )
    stopping = again.trainer.stateful["early_stopping"]
    assert stopping.monitor.mode == "max"
    assert 0 <= stopping.best <= 1
    assert stopping.best_epoch == 4


def test_a_metric_that_is_not_measured_any_more_does_not_stay(run_dir):
    resume(run_dir, trainer__max_epochs=4, metrics="[auroc]")
    rows = [row for row in read_log(run_dir / "log.jsonl") if row["event"] == "epoch"]
    assert {"val/f1", "train/f1"} <= rows[2]["metrics"].keys()
    assert not {"val/f1", "train/f1"} & rows[3]["metrics"].keys()


@pytest.mark.parametrize("epochs", [3, 5])
def test_another_monitor_ranks_the_kept_epochs_anew(run_dir, epochs):
    resume(run_dir, trainer__max_epochs=epochs, checkpoint__monitor="train/loss")
    rows = [row for row in read_log(run_dir / "log.jsonl") if row["event"] == "epoch"]
    expected = min(rows, key=lambda row: row["metrics"]["train/loss"])
    best = load_checkpoint(run_dir / "checkpoints" / "best.pt")["states"]["trainer"]
    assert best["iteration"] == expected["iteration"]
    if epochs > EPOCHS:
        assert used(run_dir)["checkpoint"]["monitor"] == "train/loss"
        assert read_yaml((run_dir / "resolved.yaml").read_text(), "")["checkpoint"]["mode"] == "min"


def test_a_run_without_last_continues_from_its_newest(run_dir):
    resume(run_dir, trainer__max_epochs=4, checkpoint__save_last="false")
    assert not (run_dir / "checkpoints" / "last.pt").exists()
    again = Experiment(load_config(str(run_dir / "config.yaml")), run_dir)
    again.setup()
    again.close()
    assert again.trainer.state.epoch == 4


def test_handlers_come_and_go(run_dir):
    guarded = "[{name: nan_guard}, {name: gradient_norm}]"
    resume(run_dir, trainer__max_epochs=4, handlers=guarded)
    row = [r for r in read_log(run_dir / "log.jsonl") if r["event"] == "epoch"][-1]
    assert row["metrics"]["train/skipped_steps"] == 0
    resume(run_dir, trainer__max_epochs=5, handlers="[{name: gradient_norm}]")
    row = [r for r in read_log(run_dir / "log.jsonl") if r["event"] == "epoch"][-1]
    assert "train/skipped_steps" not in row["metrics"]


def test_a_cohort_may_have_moved(run_dir, cohort_dir, tmp_path):
    moved = shutil.copytree(cohort_dir, tmp_path / "moved")
    resume(run_dir, trainer__max_epochs=4, data__root=moved)
    assert used(run_dir)["data"]["root"] == str(moved)


def test_a_change_is_made_again_where_it_was_lost_with_the_work(run_dir):
    """Killed after the settings were written, before any checkpoint had them."""
    config = load_config(
        str(run_dir / "config.yaml"), [("optimizer.lr", "1e-4"), ("trainer.max_epochs", "6")]
    )
    cut = Experiment(config, run_dir)
    cut.setup()
    cut.trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        cut.train()
    cut.close()
    assert used(run_dir)["optimizer"]["lr"] == 1e-4
    again = resume(run_dir)
    assert {group["initial_lr"] for group in again.trainer.optimizer.param_groups} == {1e-4}


def test_the_log_says_what_changed(run_dir):
    resume(run_dir, trainer__max_epochs=4, trainer__grad_clip=0.5)
    rows = [row for row in read_log(run_dir / "log.jsonl") if row["event"] == "settings_changed"]
    changed = {"trainer.max_epochs": [3, 4], "trainer.grad_clip": [1.0, 0.5]}
    assert [row["changes"] for row in rows] == [changed]
    resume(run_dir)
    again = [row for row in read_log(run_dir / "log.jsonl") if row["event"] == "settings_changed"]
    assert len(again) == 1


# -- refused ------------------------------------------------------------------------------------

MORE = ("--trainer.max_epochs", "9")
REFUSED = {
    "batch size": ([*MORE, "--trainer.batch_size", "4"], "trainer.batch_size 4 (it has 9: "),
    "optimizer": ([*MORE, "--optimizer.name", "sgd"], "optimizer.name sgd (it has adamw: "),
    "seed": ([*MORE, "--seed", "9"], "seed 9 (it has 0: "),
    "model": ([*MORE, "--model.name", "tabular_only"], "model.name tabular_only"),
    "loss": ([*MORE, "--loss.name", "focal"], "loss.name focal"),
    "split": ([*MORE, "--data.split.kind", "hash"], "data.split.kind hash (it has holdout: "),
    "audit": ([*MORE, "--accept", "duplicates"], 'audit.accept ["duplicates"]'),
    "name": (["--exp_name", "other"], "keeps its name"),
    "place": ([*MORE, "--runs_dir", "elsewhere"], "--runs_dir: the run to continue is "),
    "handler": ([*MORE, "--handlers", "[{name: nan_gaurd}]"], "did you mean 'nan_guard'"),
    "monitor": ([*MORE, "--checkpoint.monitor", "val/aurok"], "did you mean 'val/auroc'"),
    "pattern": (
        [*MORE, "--optimizer.groups", "[{match: nothing, lr_scale: 0.1}]"],
        "optimizer.groups",
    ),
    "other data": ([*MORE, "--data.root", "OTHER"], "cannot be continued on another cohort"),
    "too few epochs": (["--trainer.max_epochs", "2"], "its 3 epochs are trained"),
    "nothing to train": (["--optimizer.lr", "1e-5"], "optimizer.lr 1e-05 (it has 0.01) would"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_what_is_refused_leaves_the_run_as_it_was(case, run_dir, cohort_dir, tmp_path, capsys):
    arguments, message = REFUSED[case]
    other = shutil.copytree(cohort_dir, tmp_path / "other")
    samples = (other / "samples.csv").read_text()
    (other / "samples.csv").write_text(samples + "\n")
    arguments = [str(other) if word == "OTHER" else word for word in arguments]
    before = content(run_dir)
    assert main([str(run_dir / "config.yaml"), "--resume", str(run_dir), *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert content(run_dir) == before
    assert resume(run_dir).trainer.state.epoch == EPOCHS


def test_what_a_stopped_run_would_not_use_is_refused(cohort_dir, tmp_path):
    settings = small(cohort_dir, tmp_path)
    stopping = {"patience": 1, "min_delta": 1.0, "start_epoch": 0}
    settings["trainer"] |= {"max_epochs": 9, "early_stopping": stopping}
    cut = train(check_config(settings))
    before = content(cut.run_dir)
    with pytest.raises(UsageError, match="it stopped early; raise trainer"):
        resume(cut.run_dir, optimizer__lr=1e-5)
    assert content(cut.run_dir) == before
    resume(cut.run_dir, optimizer__lr=1e-5, trainer__early_stopping__patience=2)
    assert rates(cut.run_dir)[-1] < 1e-5


@pytest.mark.parametrize(
    "place",
    [
        "experiments.runs.experiment.resume_from",
        "engine.trainer.Trainer.restore",
        "engine.trainer.Trainer.fit",
    ],
)
def test_a_crash_before_training_leaves_the_run_as_it_was(run_dir, monkeypatch, place):
    def crash(*_, **__):
        raise KeyError("a bug")

    before = content(run_dir)
    monkeypatch.setattr(place, crash)
    with pytest.raises(KeyError):
        resume(run_dir, trainer__max_epochs=5)
    monkeypatch.undo()
    left = {path: data for path, data in content(run_dir).items() if path.name != ".lock"}
    assert left == before


def test_a_crash_in_the_first_batch_keeps_the_settings(run_dir, monkeypatch):
    before = {name: (run_dir / name).read_bytes() for name in ("config.yaml", "resolved.yaml")}

    def crash(*_, **__):
        raise MemoryError

    monkeypatch.setattr("models.baseline_models.MeanLinear.forward", crash)
    monkeypatch.setattr("experiments.runs.experiment.validate_model", lambda *_: ["loss"])
    with pytest.raises(MemoryError):
        resume(run_dir, trainer__max_epochs=5)
    monkeypatch.undo()
    assert {name: (run_dir / name).read_bytes() for name in before} == before
    assert resume(run_dir).trainer.state.epoch == EPOCHS


def test_a_dry_run_of_a_continuation_leaves_the_run_as_it_was(run_dir, capsys):
    before = content(run_dir)
    source = str(run_dir / "config.yaml")
    assert main([source, "--resume", str(run_dir), *MORE, "--dry-run"]) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert content(run_dir) == before


# -- files that were edited ---------------------------------------------------------------------


def test_an_edited_file_is_named_and_not_used(run_dir, cohort_dir, tmp_path, capsys):
    settings = small(cohort_dir, tmp_path / "runs")
    settings["optimizer"]["lr"] = 1e-5
    file = tmp_path / "small.yaml"
    file.write_text(write_yaml(settings))
    assert main([str(file), "--resume", "auto", "--trainer.max_epochs", "4"]) == 0
    out = capsys.readouterr().out
    assert f"{file}: not used: optimizer.lr 1e-05 (the run has 0.01)" in out
    assert "to change one: --optimizer.lr 1e-05" in out
    assert used(run_dir)["optimizer"]["lr"] == 0.01


def test_an_edited_config_of_the_run_itself_is_used(run_dir):
    config = run_dir / "config.yaml"
    edited = used(run_dir)
    edited["optimizer"]["lr"], edited["trainer"]["max_epochs"] = 1e-4, 4
    config.write_text(write_yaml(edited))
    assert main([str(config), "--resume", str(run_dir)]) == 0
    assert rates(run_dir)[-1] < 1e-4
    # Finished, and edited once more.
    edited["trainer"]["max_epochs"] = 5
    config.write_text(write_yaml(edited))
    assert main([str(config), "--resume", str(run_dir)]) == 0
    assert len(rates(run_dir)) == 5


def test_a_report_that_crashes_keeps_the_settings(run_dir, monkeypatch):
    def crash(*_, **__):
        raise MemoryError

    before = (run_dir / "config.yaml").read_bytes()
    monkeypatch.setattr("experiments.runs.experiment.bootstrap_intervals", crash)
    source = [str(run_dir / "config.yaml"), "--resume", str(run_dir)]
    with pytest.raises(MemoryError):
        main([*source, "--report.resamples", "60"])
    assert (run_dir / "config.yaml").read_bytes() == before
    assert main(source) == 0


def test_a_finished_runs_report_can_be_changed(run_dir, capsys):
    source = [str(run_dir / "config.yaml"), "--resume", str(run_dir)]
    assert main(source) == 0
    assert main([*source, "--report.resamples", "60"]) == 0
    assert "continued with report.resamples 60 (before: 0)" in capsys.readouterr().out
    assert used(run_dir)["report"]["resamples"] == 60
    assert main(source) == 0
    assert "is finished: nothing to continue" in capsys.readouterr().out


# -- one process at a time ----------------------------------------------------------------------


def test_a_run_that_another_process_has_is_not_continued(run_dir, monkeypatch, capsys):
    from experiments.run_files import RunLock
    from tests.experiments.run_files.test_folder import end, in_another_process

    monkeypatch.setattr("experiments.run_files.folder.PATIENCE_S", 0.1)
    other, _ = in_another_process(lambda: RunLock(run_dir))
    before = content(run_dir)
    code = main([str(run_dir / "config.yaml"), "--resume", str(run_dir), *MORE])
    end(other)
    assert code == 2
    error = capsys.readouterr().err
    assert f"error: the run in {run_dir} is being continued by process {other} on " in error
    assert error.count("\n") == 1
    assert content(run_dir) == before


def test_a_new_run_holds_the_lock_until_its_end(cohort_dir, tmp_path):
    experiment = Experiment(check_config(small(cohort_dir, tmp_path)))
    experiment.setup()
    assert (experiment.run_dir / ".lock").is_file()
    experiment.close()
    assert not (experiment.run_dir / ".lock").exists()
    experiment.run()
    assert not (experiment.run_dir / ".lock").exists()
