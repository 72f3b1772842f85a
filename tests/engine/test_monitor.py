from __future__ import annotations

import math

import pytest

from engine.errors import UsageError
from engine.monitor import Monitor


@pytest.mark.parametrize(
    ("mode", "value", "best", "min_delta", "better"),
    [
        ("max", 0.9, 0.8, 0.0, True),
        ("max", 0.8, 0.8, 0.0, False),
        ("max", 0.81, 0.8, 0.02, False),
        ("min", 0.5, 0.6, 0.0, True),
        ("min", 0.6, 0.5, 0.0, False),
        ("max", math.nan, 0.1, 0.0, False),
        ("max", 0.1, math.nan, 0.0, True),
        ("max", 0.1, None, 0.0, True),
        ("max", math.nan, None, 0.0, False),
        ("min", -math.inf, 0.0, 0.0, True),
        ("max", -math.inf, 0.0, 0.0, False),
    ],
)
def test_what_counts_as_better(mode, value, best, min_delta, better):
    assert Monitor("val/x", mode, "test").is_better(value, best, min_delta) is better


def test_a_mode_that_is_neither_is_refused():
    with pytest.raises(UsageError, match=r"checkpoint.mode.*did you mean 'max'"):
        Monitor("val/auroc", "maxx", "checkpoint")
