from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.config.changed_settings import (
    ANY_TIME,
    FINDS_THE_RUN,
    REFUSED,
    TRAINING,
    Change,
    changes_between,
    describe_changes,
    refuse_changes,
    refuse_without_effect,
    setting_keys,
    training_settings,
    unused_settings,
    with_training_settings,
)
from experiments.config.schema import Config
from experiments.config.source import check_config, load_config, set_key

CLASSES = (FINDS_THE_RUN, ANY_TIME, TRAINING, REFUSED)
# A run that has all its optional sections.
BASE = {
    "exp_name": "a",
    "trainer": {"early_stopping": {"patience": 3}},
    "data": {"split": {"kind": "kfold"}},
}
# Another valid value of each setting.
OTHER = {
    "exp_name": "b",
    "runs_dir": "elsewhere",
    "seed": 7,
    "data.root": "cohort",
    "data.simulated.seed": 1,
    "data.simulated.n_samples": 80,
    "data.simulated.technique": "raman",
    "data.simulated.covariates": "few",
    "data.simulated.main_effects": 0.5,
    "data.simulated.interactions": 0.6,
    "data.simulated.subtypes": 4,
    "data.simulated.calibration_shift": 3.0,
    "data.simulated.cosmic_spikes": 1.0,
    "data.cache_dir": "cache",
    "data.task": "binary",
    "data.label": "outcome",
    "data.labels": {"control": 0, "case": 1},
    "data.group": "patient",
    "data.numeric": ["age"],
    "data.categorical": ["sex"],
    "data.log": ["age"],
    "data.missing_indicators": False,
    "data.covariate_encoding": "piecewise",
    "data.transforms": ["tic"],
    "data.augmentations": ["noise"],
    "data.split.kind": "leave_one_group_out",
    "data.split.fractions": [0.6, 0.2, 0.2],
    "data.split.seed": 5,
    "data.split.folds": 3,
    "data.split.fold": 1,
    "data.split.batch": "site",
    "data.split.file": "splits.csv",
    "data.verify": True,
    "data.cache": "none",
    "data.cache_limit_gib": 1.0,
    "data.batching.kind": "bucket",
    "data.batching.token_budget": 4096,
    "data.batching.balance": "class",
    "data.batching.collate": "packed",
    "data.batching.pad_rows_to": 8,
    "data.batching.pad_scans_to": 4,
    "data.num_workers": 1,
    "model.name": "mean_linear",
    "model.params": {"d_model": 16},
    "model.members": 3,
    "model.linear_path": True,
    "loss.name": "focal",
    "loss.params": {"gamma": 1.0},
    "metrics": ["auroc"],
    "trainer.max_epochs": 50,
    "trainer.batch_size": 8,
    "trainer.device": "cpu",
    "trainer.precision": "bf16",
    "trainer.grad_clip": 0.5,
    "trainer.accumulate_steps": 2,
    "trainer.compile": "default",
    "trainer.early_stopping": None,
    "trainer.early_stopping.monitor": "val/loss",
    "trainer.early_stopping.mode": "min",
    "trainer.early_stopping.patience": 9,
    "trainer.early_stopping.cooldown": 1,
    "trainer.early_stopping.min_delta": 0.1,
    "trainer.early_stopping.relative": True,
    "trainer.early_stopping.start_epoch": 2,
    "trainer.processes.strategy": "fsdp",
    "trainer.processes.backend": "gloo",
    "trainer.processes.static_graph": True,
    "trainer.processes.find_unused_parameters": True,
    "trainer.processes.overlap": False,
    "optimizer.name": "sgd",
    "optimizer.lr": 1e-5,
    "optimizer.weight_decay": 0.5,
    "optimizer.layer_decay": 0.9,
    "optimizer.groups": [{"match": "head", "lr_scale": 0.1}],
    "optimizer.params": {"betas": [0.8, 0.9]},
    "lr_scheduler": None,
    "lr_scheduler.name": "constant",
    "lr_scheduler.warmup": 0.2,
    "lr_scheduler.warmup_steps": 10,
    "lr_scheduler.params": {"min_lr": 1e-6},
    "checkpoint.monitor": "val/loss",
    "checkpoint.mode": "min",
    "checkpoint.save_top_k": 1,
    "checkpoint.save_last": False,
    "checkpoint.every_epochs": 2,
    "checkpoint.every_steps": 10,
    "checkpoint.keep_every_epochs": 5,
    "ema.decay": 0.9,
    "ema.warmup": False,
    "log.every_steps": 5,
    "trainer.refit": True,
    "trainer.deterministic": True,
    "handlers": [{"name": "nan_guard", "params": {}}],
    "baselines.enabled": False,
    "baselines.models": ["late_fusion"],
    "baselines.max_samples": 500,
    "report.enabled": False,
    "report.language": "zh",
    "report.resamples": 50,
    "report.threshold.rule": "f1",
    "report.threshold.demand": 0.9,
    "report.attribution.method": None,
    "report.attribution.max_samples": 10,
    "report.attribution.steps": 8,
    "report.sections": [{"name": "my_sections.errors_by", "params": {}}],
    "audit.enabled": False,
    "audit.accept": ["duplicates"],
}


def settings(**changes):
    values = check_config(BASE).resolved()
    for key, value in changes.items():
        set_key(values, key, value)
    return values


@pytest.mark.parametrize("key", setting_keys())
def test_every_setting_is_in_exactly_one_class(key):
    assert [key in each for each in CLASSES].count(True) == 1, f"{key}: say what resuming does"
    assert key in OTHER, f"{key}: give another value, for the tests below"


def test_no_class_holds_a_setting_that_does_not_exist():
    assert set().union(*CLASSES) == set(setting_keys()) == set(OTHER)


@pytest.mark.parametrize("key", sorted(OTHER))
def test_a_change_is_found_and_refused_or_not(key, tmp_path):
    before, now = settings(), settings(**{key: OTHER[key]})
    changes = changes_between(before, now)
    if key in FINDS_THE_RUN:
        assert changes == []
        return
    assert [change.key for change in changes] == [key]
    if key in REFUSED:
        with pytest.raises(UsageError, match=rf"cannot be continued with {key} .*{REFUSED[key]}"):
            refuse_changes(changes, tmp_path)
    else:
        refuse_changes(changes, tmp_path)
        assert f"continued with {key} " in describe_changes(changes)


@pytest.mark.parametrize("key", sorted(TRAINING | ANY_TIME))
def test_without_training_only_training_settings_are_refused(key, tmp_path):
    changes = [Change(key, 1, OTHER[key])]
    if key in ANY_TIME:
        refuse_without_effect(changes, tmp_path, "all is trained")
        return
    with pytest.raises(UsageError, match=f"^{key} .* would change nothing in .*: all is trained"):
        refuse_without_effect(changes, tmp_path, "all is trained")


def test_all_that_is_refused_stands_in_one_line(tmp_path):
    changes = changes_between(settings(), settings(seed=3, **{"optimizer.name": "sgd"}))
    with pytest.raises(UsageError) as refused:
        refuse_changes(changes, tmp_path)
    line = str(refused.value)
    assert "seed 3 (it has 0: " in line
    assert "optimizer.name sgd (it has adamw: " in line
    assert "\n" not in line


def test_a_setting_without_a_class_is_refused(tmp_path):
    with pytest.raises(UsageError, match=r"trainer\.new 2 \(it has 1: nothing says"):
        refuse_changes([Change("trainer.new", 1, 2)], tmp_path)


def test_padding_makes_other_batches_of_buckets(tmp_path):
    change = [Change("data.batching.pad_scans_to", None, 4)]
    with pytest.raises(UsageError, match="counted in batches"):
        refuse_changes(change, tmp_path, bucketed=True)


def test_a_section_that_appears_is_one_change():
    without = settings(**{"trainer.early_stopping": None})
    assert [c.key for c in changes_between(without, settings())] == ["trainer.early_stopping"]


def test_a_setting_of_another_version_is_passed_over():
    before = settings()
    del before["trainer"]["compile"]
    assert changes_between(before, settings(**{"trainer.compile": "default"})) == []


def test_a_checkpoint_holds_the_settings_of_its_training():
    trained = check_config(BASE | {"optimizer": {"lr": 0.1}, "report": {"resamples": 50}})
    saved = training_settings(trained)
    assert "report" not in saved or "resamples" not in saved["report"]
    whole = with_training_settings(settings(**{"ema.decay": 0.5}), saved)
    assert whole["optimizer"]["lr"] == 0.1
    assert whole["ema"]["decay"] is None
    assert whole["report"]["resamples"] == Config().report.resamples
    # Parameters are one setting, and not merged.
    former = with_training_settings(settings(**{"model.params": {"d_model": 8}}), saved)
    assert former["model"]["params"] == {}


def test_what_a_file_sets_and_the_run_does_not_use_is_named(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("trainer: {max_epochs: 6}\nmodel: {name: tft, params: {d_model: 8}}\n")
    written = {"trainer": {"max_epochs": 6}, "model": {"name": "tft", "params": {"d_model": 8}}}
    own = load_config(str(file), [("trainer.max_epochs", "2"), ("ema.decay", "0.9")])
    line = unused_settings(str(file), written, load_config(str(file)), own)
    # The run's averaging is not the file's business.
    assert line == (
        f"{file}: not used: trainer.max_epochs 6 (the run has 2); the run keeps its own settings; "
        "to change one: --trainer.max_epochs 6"
    )
    assert unused_settings(str(file), written, own, own) is None
