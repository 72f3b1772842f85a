"""Who trains on the processor of a machine with GPUs does not touch them."""

from __future__ import annotations

import sys
import warnings

import pytest
import torch
import torch._dynamo  # looks at all of torch's functions when it is imported

from engine.checkpointing import preserve_rng_state
from engine.losses import CrossEntropy
from engine.model_validation import validate_model
from experiments.config import write_yaml
from experiments.enhanced_trainer import AnyLoader, find_task
from experiments.run import main
from tests.tiny_problem import TinyLoader, TinyModel


@pytest.fixture
def gpus_that_must_not_be_touched(monkeypatch):
    """Two of them are here; whatever starts CUDA fails."""

    def touched(*args, **kwargs):
        raise AssertionError("CUDA was started")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda.nccl, "version", lambda: (2, 0))
    for module in [m for name, m in sys.modules.items() if name.startswith("torch.cuda")]:
        if hasattr(module, "_lazy_init"):
            monkeypatch.setattr(module, "_lazy_init", touched)
    monkeypatch.setattr(torch.cuda, "set_device", touched)


@pytest.mark.slow
@pytest.mark.usefixtures("gpus_that_must_not_be_touched")
def test_a_whole_run_on_the_processor_starts_no_cuda(settings, tmp_path, capsys):
    settings["trainer"]["max_epochs"] = 1
    settings["report"] = {"resamples": 50}
    settings["handlers"] = [{"name": "attribution", "params": {"every": 1, "steps": 2}}]
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    with warnings.catch_warnings():
        warnings.filterwarnings("error", "CUDA reports", UserWarning)
        assert main([str(path)]) == 0, capsys.readouterr().err


@pytest.mark.usefixtures("gpus_that_must_not_be_touched")
def test_checking_a_model_starts_no_cuda():
    batch = next(iter(TinyLoader()))
    assert validate_model(TinyModel(), CrossEntropy(), batch, 2) == ["total_loss"]
    loader = AnyLoader(TinyLoader(), "loader")
    assert find_task(TinyModel(), loader, torch.device("cpu")).name == "binary"


def test_cuda_streams_started_within_keep_the_seed(monkeypatch):
    started = [False, True]
    seeded: list[int] = []
    torch.manual_seed(11)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: started.pop(0))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    with preserve_rng_state():
        torch.default_generator.manual_seed(99)
    assert seeded == [11]
