from __future__ import annotations

import pytest
from torch import nn

from datasets.errors import UsageError
from engine.optim.name_patterns import matches, refuse_unmatched


@pytest.mark.parametrize(
    ("pattern", "name", "meant"),
    [
        ("encoder", "encoder.weight", True),
        ("encoder", "encoder2.weight", False),
        ("encoder.w*", "encoder.weight", True),
        ("*.bias", "a.b.bias", True),
        ("blocks.[01]", "blocks.1.weight", True),
        ("blocks.[01]", "blocks.10.weight", False),
    ],
)
def test_a_pattern_means_a_name_or_what_is_in_it(pattern, name, meant):
    assert matches(pattern, name) == meant


def test_what_means_nothing_is_refused_and_modules_are_offered():
    model = nn.ModuleDict({"encoder": nn.Linear(1, 1)})
    names = ["encoder.weight", "encoder.bias"]
    refuse_unmatched(["encoder"], names, model, "freeze")
    with pytest.raises(UsageError, match=r"^freeze: .*'encodr'.*'encoder'"):
        refuse_unmatched(["encodr"], names, model, "freeze")
