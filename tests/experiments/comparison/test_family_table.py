from __future__ import annotations

import math

from experiments.comparison.family_table import Row, Table


def table(mode="max", **medians):
    rows = []
    for family, (val, tests) in medians.items():
        rows += [Row(family, seed, val, test, 1234, 2.0) for seed, test in enumerate(tests)]
    return Table("study", "auroc", mode, rows)


def families(text):
    lines = [line for line in text.splitlines() if line.startswith("| ")][1:]
    return [line.split("|")[1].strip() for line in lines]


def test_the_best_on_validation_stands_first_and_both_winners_are_named():
    found = table(a=(0.7, [0.9, 0.9]), b=(0.8, [0.6, 0.8])).markdown()
    assert families(found) == ["b", "a"]
    assert "b is the best on validation, a on test." in found
    assert "| b | 1,234 | 0.8000 | 0.7000 | 0.7000 | 0.6000 | 0.8000 | 2.0 |" in found


def test_where_smaller_is_better_the_smallest_wins():
    found = table("min", a=(0.7, [0.9]), b=(0.8, [0.95])).markdown()
    assert families(found) == ["a", "b"]
    assert "over 1 seed, a is the best on validation and on test." in found


def test_what_is_undefined_comes_last_and_is_said():
    found = table(a=(math.nan, [0.9, math.nan]), b=(0.6, [0.5, 0.5])).markdown()
    assert families(found) == ["b", "a"]
    assert "undefined" in found
    assert "b is the best on validation and on test." in found
