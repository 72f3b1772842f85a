from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.transform_cache import plain_digest, transform_fingerprint
from datasets.transforms import Compose, Standardize, make_transforms

SPECTRA = np.random.default_rng(0).gamma(2.0, 100.0, (20, 64)).astype(np.float32)


def fitted(*names: Any, rows: slice = slice(None)) -> Compose:
    return make_transforms(names).fit(SPECTRA[rows], axis=np.arange(64.0))


def same(one: object, two: object) -> bool:
    return plain_digest(transform_fingerprint(one)) == plain_digest(transform_fingerprint(two))


def test_the_same_transforms_are_described_alike():
    names = ("tic", "sqrt", "standardize")
    assert same(fitted(*names), fitted(*names))
    json.dumps(transform_fingerprint(fitted(*names)))


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(("sqrt", "tic", "standardize"), id="order"),
        pytest.param(("tic", "sqrt"), id="one less"),
        pytest.param(
            ("tic", "sqrt", {"name": "standardize", "params": {"min_std": 0.1}}), id="a parameter"
        ),
    ],
)
def test_what_changes_the_result_changes_the_description(other):
    assert not same(fitted("tic", "sqrt", "standardize"), fitted(*other))


def test_what_was_learnt_counts():
    assert not same(fitted("standardize"), fitted("standardize", rows=slice(0, 10)))
    assert not same(Standardize(), Standardize().fit([SPECTRA]))


SOURCE = """
class Scale:
    def __init__(self):
        self.by = 2.0

    def __call__(self, scans):
        return scans * {by}
"""


def scale(file: Path, by: str) -> object:
    """A transform of the user's own file."""
    file.write_text(SOURCE.format(by=by))
    spec = importlib.util.spec_from_file_location("own_transforms", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.Scale()


def test_a_transform_whose_code_was_changed_is_another_one(tmp_path):
    file = tmp_path / "own_transforms.py"
    before = transform_fingerprint(scale(file, "self.by"))
    assert transform_fingerprint(scale(file, "self.by")) == before
    assert transform_fingerprint(scale(file, "3.0")) != before


def test_functions_differ_by_their_code_and_closure():
    def make(factor: float):
        return lambda scans: scans * factor

    assert same(make(2.0), make(2.0))
    assert not same(make(2.0), make(3.0))
    assert not same(lambda scans: scans + 1, lambda scans: scans + 2)


def test_a_class_that_was_typed_in_is_described_by_its_methods():
    made: dict[str, type] = {}
    for name, by in (("one", "2"), ("same", "2"), ("other", "3")):
        space: dict[str, type] = {}
        exec(SOURCE.format(by=by), {"__name__": "typed_in"}, space)
        made[name] = space["Scale"]
    assert same(made["one"](), made["same"]())
    assert not same(made["one"](), made["other"]())
