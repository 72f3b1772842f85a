from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Events

from datasets.errors import UsageError
from engine import Phase
from engine.checkpointing import save_checkpoint
from experiments.enhanced_trainer.default_training import (
    device_or_cpu,
    history_columns,
    load_weights,
    save_weights,
)
from handlers import Validation
from models import EnhancedAttentionMultimodal, MeanLinear, TabularOnly


def test_the_history_has_nan_where_nothing_was_measured(make_trainer, make_evaluator, loader):
    trainer = make_trainer()
    trainer.attach(Validation(make_evaluator(trainer), loader, every=2))
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda: seen.append(trainer.state.metrics["train/loss"]),
        phase=Phase.REPORT,
    )
    trainer.fit(loader, max_epochs=3)
    columns = history_columns(trainer.history)
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


@pytest.fixture
def saved(tmp_path):
    """The file of a model, and the model."""
    torch.manual_seed(0)
    model = TabularOnly(tab_dim=4)
    save_weights(model, tmp_path / "deep" / "model.pt")
    return tmp_path / "deep" / "model.pt", model


def test_weights_come_back_bit_for_bit(saved):
    path, model = saved
    torch.manual_seed(1)
    other = TabularOnly(tab_dim=4)
    load_weights(other, path)
    for name, tensor in model.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor)


def test_nothing_in_the_file_can_run_code(saved):
    content = torch.load(saved[0], weights_only=True)
    assert content["meta"] == {"model": {"name": "TabularOnly"}}


def test_a_checkpoint_of_a_training_is_taken_too(make_trainer, loader):
    from handlers import Checkpoint

    trainer = make_trainer()
    trainer.attach(Checkpoint(monitor="train/loss", mode="min"))
    trainer.fit(loader, 1)
    other = make_trainer(seed=5)
    load_weights(other.model, trainer.run_dir / "checkpoints" / "best.pt")
    for name, tensor in trainer.model.state_dict().items():
        assert torch.equal(other.model.state_dict()[name], tensor)


@pytest.mark.parametrize("other", [TabularOnly(tab_dim=5), MeanLinear(spec_len=8)])
def test_another_model_is_refused_in_a_line_and_stays_as_it_was(saved, other):
    before = {name: tensor.clone() for name, tensor in other.state_dict().items()}
    with pytest.raises(UsageError, match=r"holds another model \(TabularOnly\) than this") as error:
        load_weights(other, saved[0])
    assert "\n" not in str(error.value)
    assert all(torch.equal(before[name], t) for name, t in other.state_dict().items())


def test_a_missing_or_damaged_file_is_said(saved):
    path, model = saved
    with pytest.raises(UsageError, match=r"no checkpoint at .*did you mean 'model.pt'"):
        load_weights(model, path.with_name("modle.pt"))
    whole = bytearray(path.read_bytes())
    whole[len(whole) // 2] ^= 1
    path.write_bytes(whole)
    with pytest.raises(UsageError, match="damaged"):
        load_weights(model, path)


def test_a_place_that_cannot_be_written_is_said(saved, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot make the folder"):
        save_weights(saved[1], tmp_path / "file" / "model.pt")


@pytest.mark.parametrize(("fusion_type", "width"), [("enhanced_cross", 256), ("concat", 18)])
def test_weights_of_a_fusion_of_logits_are_refused(fusion_type, width, tmp_path):
    model, first = (
        EnhancedAttentionMultimodal(12, 6, fusion_type=fusion_type),
        "classifier.layers.0.body.0.weight",
    )
    saved = {**model.state_dict(), first: torch.zeros(512, 260)}
    save_checkpoint(tmp_path / "old.pt", {"model": saved}, {})
    shapes = rf"\[512, 260\] there, \[512, {width}\] here"
    with pytest.raises(UsageError, match=rf"holds another model .*'{first}' \({shapes}\)"):
        load_weights(model, tmp_path / "old.pt")
