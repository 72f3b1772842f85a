"""What is decided before processes come together; groups of several are in test_processes.py."""

from __future__ import annotations

import pytest
import torch

from datasets.errors import UsageError
from engine.processes import world
from experiments.config import TrainerConfig
from experiments.config_source import check_config
from experiments.process_group import (
    _device_of,
    check_alike,
    choose_backend,
    describe_group,
    joined,
    own_device,
    tell_group,
)

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def trainer(**processes):
    return TrainerConfig.model_validate({"processes": processes})


def test_a_process_that_torchrun_did_not_start_stays_alone():
    with joined(None, trainer()):
        assert world() == 1
        assert own_device("cpu") == CPU
        assert tell_group(trainer()) is None
        assert describe_group(trainer()) is None
        check_alike(check_config({}), "fingerprint")


def test_tensors_travel_as_suits_the_device_or_as_is_asked():
    assert choose_backend(trainer(), CPU) == "gloo"
    assert choose_backend(trainer(), GPU) == "nccl"
    assert choose_backend(trainer(backend="gloo"), GPU) == "gloo"
    with pytest.raises(UsageError, match="nccl needs GPUs, but the training is on cpu"):
        choose_backend(trainer(backend="nccl"), CPU)


def test_each_process_has_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert [_device_of(rank, "auto") for rank in (0, 1)] == [
        torch.device("cuda", 0),
        torch.device("cuda", 1),
    ]
    with pytest.raises(UsageError, match=r"2 CUDA devices, too few .* --nproc_per_node=2"):
        _device_of(2, "cuda")
    with pytest.raises(UsageError, match="cannot share cuda:0"):
        _device_of(0, "cuda:0")
    assert _device_of(5, "cpu") == CPU


def test_two_promises_that_exclude_each_other_are_refused():
    values = {"trainer": {"processes": {"static_graph": True, "find_unused_parameters": True}}}
    with pytest.raises(UsageError, match="static_graph and find_unused_parameters exclude"):
        check_config(values)
