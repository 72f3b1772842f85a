from __future__ import annotations

import math

import pytest

from datasets.errors import UsageError
from engine.metrics.monitor import Monitor


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


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("val/auroc", "max"),
        ("val/loss", "min"),
        ("val/mae", "min"),
        ("x/recall_at_fpr@0.1", "max"),
    ],
)
def test_the_mode_follows_from_the_metric(name, mode):
    assert Monitor(name, None, "test").mode == mode
    assert Monitor(name, "max", "test").mode == "max"


def test_a_metric_of_ones_own_has_to_state_its_mode():
    with pytest.raises(UsageError, match=r"early_stopping.monitor: of 'val/mine' .*mode to max or"):
        Monitor("val/mine", None, "early_stopping")
    with pytest.raises(UsageError, match=r"did you mean 'val/auroc'"):
        Monitor("val/aurok", None, "early_stopping")
    assert Monitor("val/mine", "min", "early_stopping").mode == "min"


def test_a_mode_that_is_neither_is_refused():
    with pytest.raises(UsageError, match=r"checkpoint.mode.*did you mean 'max'"):
        Monitor("val/auroc", "maxx", "checkpoint")
