"""What is decided before processes come together; groups of several are in test_processes.py."""

from __future__ import annotations

import pytest
import torch

from datasets.errors import UsageError
from engine.checkpointing import load_checkpoint
from engine.distributed import world_size
from engine.reporting import read_log
from experiments.config import TrainerConfig, check_config, write_yaml
from experiments.launch.context import LaunchContext
from experiments.launch.process_group import (
    _device_of,
    check_alike,
    choose_backend,
    describe_group,
    joined,
    own_device,
    replica_devices,
    tell_group,
)
from experiments.run import main

CPU, GPU = torch.device("cpu"), torch.device("cuda")


def trainer(**processes):
    return TrainerConfig.model_validate({"processes": processes})


def test_a_process_that_torchrun_did_not_start_stays_alone():
    with joined(None, trainer()):
        assert world_size() == 1
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


def test_one_process_takes_all_gpus_and_says_what_is_faster(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    settings = trainer(strategy="dp").model_copy(update={"batch_size": 32})
    assert replica_devices(settings) == [0, 1, 2]
    assert tell_group(settings) == (
        "1 process, 3 GPUs, joint batch 32: torchrun with the strategy ddp is faster"
    )
    assert describe_group(settings) == {"number": 1, "strategy": "dp", "gpus": 3}


@pytest.mark.parametrize(
    ("gpus", "device", "expected"),
    [
        (0, "cpu", "dp needs GPUs, but the training is on cpu"),
        (2, "cpu", "dp needs GPUs, but the training is on cpu"),
        (1, "auto", "dp needs two GPUs or more, this process sees 1"),
        (2, "cuda:1", "dp takes all GPUs, but trainer.device is cuda:1"),
    ],
)
def test_replicas_without_several_gpus_are_refused(monkeypatch, gpus, device, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    settings = TrainerConfig.model_validate(
        {"device": device, "batch_size": 32, "processes": {"strategy": "dp"}}
    )
    with pytest.raises(UsageError, match=expected):
        replica_devices(settings)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"trainer.processes.backend": "gloo"}, "strategy dp is of one process and has no backend"),
        ({"trainer.processes.overlap": True}, "has no overlap"),
        ({"trainer.processes.static_graph": True}, "has no static_graph"),
        ({"trainer.compile": "graphs"}, "compile and processes.strategy dp exclude each other"),
        ({"trainer.compile": "default"}, "compile and processes.strategy dp exclude each other"),
    ],
)
def test_what_does_not_go_with_replicas_is_refused(make_config, changes, expected):
    with pytest.raises(UsageError, match=expected):
        make_config(**{"trainer.processes.strategy": "dp", **changes})


def test_replicas_on_the_processor_are_refused(settings, tmp_path, capsys):
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    assert main([str(path), "--trainer.processes.strategy", "dp"]) == 2
    assert capsys.readouterr().err.startswith("error: trainer.processes.strategy: dp needs GPUs")
    assert not any((tmp_path / "runs").iterdir())


def test_torchrun_and_replicas_are_refused_together():
    one = LaunchContext(0, 0, 1, "none", None, None)
    with (
        pytest.raises(UsageError, match="torchrun does not start"),
        joined(one, trainer(strategy="dp")),
    ):
        pass


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two CUDA devices")
def test_a_run_on_two_gpus_ends_as_one_on_a_single_gpu_does(settings, tmp_path, capsys):
    settings["trainer"] |= {"device": "cuda", "batch_size": 13}
    settings["model"]["params"]["dropout"] = 0.0
    settings["data"]["augmentations"] = []
    settings["report"]["enabled"] = False
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    assert main([str(path), "--exp_name", "one"]) == 0
    capsys.readouterr()
    assert main([str(path), "--exp_name", "two", "--trainer.processes.strategy", "dp"]) == 0
    told = f"1 process, {torch.cuda.device_count()} GPUs, joint batch 13"
    assert told in capsys.readouterr().out
    runs, names, losses = tmp_path / "runs", [], []
    for name in ("one", "two"):
        states = load_checkpoint(runs / name / "checkpoints" / "last.pt")["states"]
        names.append(states["model"].keys())
        rows = read_log(runs / name / "log.jsonl")
        metrics = [row["metrics"] for row in rows if row["event"] == "epoch"]
        losses += [[each[loss] for each in metrics for loss in ("train/loss", "val/loss")]]
    assert names[0] == names[1]
    assert losses[0] == pytest.approx(losses[1], abs=1e-3)
