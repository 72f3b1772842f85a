from __future__ import annotations

import math

from engine.statistics import DeLong
from experiments.comparison.comparison_page import p_or_too_few


def test_too_few_samples_have_no_p_value():
    assert p_or_too_few(DeLong(0.9, 0.8, 0.1), math.nan) == "too few samples"
    assert p_or_too_few(DeLong(), math.nan) == "undefined"
