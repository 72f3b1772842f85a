from __future__ import annotations

import sys

import pytest

from engine import UsageError
from engine.reporting.external_loggers import describe_run, epoch_values, require_package


def test_a_missing_package_is_refused_with_its_pip_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(UsageError, match=r"needs the package of that name: pip install wandb$"):
        require_package("wandb")


def test_a_folder_of_the_packages_name_is_no_package(tmp_path, monkeypatch):
    (tmp_path / "left_behind").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(UsageError, match="pip install left_behind"):
        require_package("left_behind")


def test_a_run_is_described_in_plain_values(make_trainer, loader):
    trainer = make_trainer(lr=0.02, weight_decay=0.3)
    trainer.model.head.requires_grad_(False)
    trainer.fit(loader, 2)
    described = describe_run(trainer)
    assert described == {
        "model": "TinyModel",
        "parameters": 90,
        "trainable_parameters": 72,
        "loss": "CrossEntropy",
        "optimizer": "AdamW",
        "lr": 0.02,
        "weight_decay": 0.3,
        "precision": "fp32",
        "device": "cpu",
        "max_epochs": 2,
        "batches_per_epoch": 5,
        "accumulate_steps": 1,
    }


def test_an_undefined_metric_is_left_out_of_an_epochs_values(make_trainer):
    trainer = make_trainer(lr=0.02)
    trainer.state.metrics.update({"val/auroc": float("nan"), "val/loss": 0.5})
    assert epoch_values(trainer) == {"lr": 0.02, "val/loss": 0.5}
