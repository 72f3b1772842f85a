from __future__ import annotations

import pytest
import torch

from engine.precision import best_device, has_bf16_instructions


def test_auto_is_cuda_where_there_is_one():
    assert best_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device 'gpu' is unknown; choose auto, cpu or cuda"):
        best_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is available here")
def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="no CUDA device is available; use cpu"):
        best_device("cuda:0")


@pytest.mark.parametrize(
    ("capabilities", "has"),
    [
        ({"architecture": "x86_64", "avx512_bf16": True, "amx_bf16": False}, True),
        ({"architecture": "x86_64", "avx512_bf16": False, "amx_bf16": True}, True),
        ({"architecture": "arm64", "bf16": True, "sve": False}, True),
        ({"architecture": "arm64", "bf16": False, "sve": True}, False),
        ({"architecture": "x86_64", "avx2": True}, False),
    ],
)
def test_instructions_for_bf16_go_by_what_torch_finds(monkeypatch, capabilities, has):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert has_bf16_instructions() is has


def test_an_older_torch_cannot_tell(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert has_bf16_instructions() is None


def test_what_torch_calls_them_is_known_here():
    found = torch.cpu.get_capabilities()
    names = {"avx512_bf16", "amx_bf16"} if found["architecture"] == "x86_64" else {"bf16"}
    assert names <= set(found)
