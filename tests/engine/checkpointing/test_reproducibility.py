from __future__ import annotations

import io
import os
import random

import numpy as np
import pytest
import torch
from ignite.utils import manual_seed

from engine import UsageError
from engine.checkpointing.reproducibility import (
    WORKSPACE,
    capture_rng,
    deterministic_algorithms,
    restore_rng,
    seed_apart,
)


def draw():
    return random.random(), np.random.normal(), np.random.rand(), torch.rand(1).item()


def test_all_streams_continue_also_through_a_file():
    manual_seed(4)
    draw()
    file = io.BytesIO()
    torch.save(capture_rng(), file)
    expected = draw()
    manual_seed(99)
    file.seek(0)
    restore_rng(torch.load(file, weights_only=True))
    assert draw() == expected


def test_seeding_makes_all_streams_repeat():
    manual_seed(7)
    first = draw()
    manual_seed(7)
    assert draw() == first


def test_seed_apart_differs_by_rank_and_is_repeatable():
    drawn = []
    for rank in (1, 2, 1):
        manual_seed(7)
        seed_apart(rank)
        drawn.append(draw())
    assert drawn[0] == drawn[2]
    assert all(one != other for one, other in zip(drawn[0], drawn[1], strict=True))


def flags():
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.backends.cudnn.deterministic,
        torch.backends.cudnn.benchmark,
    )


def fills_uninitialized_memory():
    return torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]


def test_all_flags_are_set_within_and_as_before_afterwards(monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    filling = fills_uninitialized_memory()
    before = flags()
    with deterministic_algorithms("cpu"):
        assert flags() == (True, False, True, False)
        assert fills_uninitialized_memory() is filling
    assert flags() == before
    with pytest.raises(KeyError), deterministic_algorithms("cpu"):
        raise KeyError
    assert flags() == before


def test_an_operation_without_such_a_form_is_named_in_a_line():
    line = r"^trainer\.deterministic: the operation put_ has no deterministic form"
    with pytest.raises(UsageError, match=line) as failed, deterministic_algorithms("cpu"):
        torch.zeros(2).put_(torch.tensor([1, 1]), torch.tensor([1.0, 2.0]))
    assert "\n" not in str(failed.value)


def test_another_runtime_error_stays_what_it_is():
    with pytest.raises(RuntimeError, match="a bug") as failed, deterministic_algorithms("cpu"):
        raise RuntimeError("a bug")
    assert not isinstance(failed.value, UsageError)


def test_cublas_is_told_before_cuda_starts(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    with deterministic_algorithms("cuda"):
        assert os.environ[WORKSPACE] == ":4096:8"


def test_on_the_processor_cublas_is_left_alone(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    with deterministic_algorithms("cpu"):
        assert WORKSPACE not in os.environ


def test_after_cuda_has_started_it_is_too_late(monkeypatch):
    monkeypatch.delenv(WORKSPACE, raising=False)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    with (
        pytest.raises(UsageError, match=f"set {WORKSPACE}=:4096:8"),
        deterministic_algorithms("cuda"),
    ):
        pass


def test_a_workspace_that_is_not_deterministic_is_refused(monkeypatch):
    monkeypatch.setenv(WORKSPACE, ":0:0")
    with (
        pytest.raises(UsageError, match="expected :4096:8 or :16:8"),
        deterministic_algorithms("cuda"),
    ):
        pass
