from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Events

from datasets.errors import UsageError
from engine import Phase
from experiments.enhanced_trainer.default_training import History, device_or_cpu
from handlers import Validation


def test_the_history_has_a_value_an_epoch_and_nan_where_nothing_was_measured(
    make_trainer, make_evaluator, loader
):
    trainer, history = make_trainer(), History()
    trainer.attach(Validation(make_evaluator(trainer), loader, every=2), history)
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: seen.append(trainer.state.metrics["train/loss"]),
        phase=Phase.REPORT,
    )
    trainer.fit(loader, max_epochs=3)
    columns = history.columns()
    assert columns["epoch"] == [1, 2, 3]
    assert columns["train/loss"] == seen
    assert [math.isnan(value) for value in columns["val/loss"]] == [True, False, False]


def test_a_gpu_that_is_missing_is_said_once_in_a_line(monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device_or_cpu("cuda:1") == torch.device("cpu")
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert device_or_cpu("cpu") == torch.device("cpu")
    assert capsys.readouterr().err == ""


def test_a_device_that_is_none_is_refused():
    with pytest.raises(UsageError, match="device 'tpu9' is unknown"):
        device_or_cpu("tpu9")
