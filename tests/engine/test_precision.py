from __future__ import annotations

import pytest
import torch

from engine.precision import best_device


def test_auto_is_cuda_where_there_is_one():
    assert best_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device 'gpu' is unknown; choose auto, cpu or cuda"):
        best_device("gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is available here")
def test_cuda_without_a_gpu_is_refused():
    with pytest.raises(ValueError, match="no CUDA device is available; use cpu"):
        best_device("cuda:0")
