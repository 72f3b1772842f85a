"""What one feature tells, and that nothing is read into chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from datasets.audit import small_model
from datasets.audit.contrasts import Contrast
from datasets.audit.small_model import Examiner

DRAWS = 400


def examine(members, groups=None, looks=1):
    groups = np.arange(len(members)) if groups is None else groups
    return Examiner([Contrast("case", "control", members)], groups, looks)


def patients(rng):
    return np.arange(120), rng.permutation(120) < 50


def replicates(rng):
    groups = np.repeat(np.arange(40), 4)
    return groups, (rng.permutation(40) < 16)[groups]


def plates(rng):
    groups = rng.integers(0, 5, 200)
    # Plates differ in their share of cases, and in everything that is measured.
    return groups, rng.random(200) < np.array([0.2, 0.4, 0.5, 0.6, 0.8])[groups]


def numbers(examiner, groups, rng):
    return examiner.ask_numbers(
        rng.standard_normal(groups.max() + 1)[groups] + rng.normal(size=len(groups))
    )


def flags(examiner, groups, rng):
    return examiner.ask_numbers((rng.random(len(groups)) < 0.1).astype(float))


def categories(examiner, groups, rng):
    of_group = rng.integers(0, 8, groups.max() + 1)[groups]
    return examiner.ask_categories(pd.Series(of_group).astype(str))


@pytest.mark.slow
@pytest.mark.parametrize("ask", [numbers, flags, categories])
@pytest.mark.parametrize("draw", [patients, replicates, plates])
def test_features_that_mean_nothing_are_seldom_more_than_chance(draw, ask, monkeypatch):
    # At the audit's own level nothing would be seen in so few draws.
    monkeypatch.setattr(small_model, "FAMILY_ERROR", 0.05)
    rng = np.random.default_rng(0)
    false = 0
    for _ in range(DRAWS):
        groups, members = draw(rng)
        found = ask(examine(members, groups), groups, rng)
        false += found is not None and found.beyond_chance
    # 20 are expected, and 4.4 is the standard deviation of such counts.
    assert false <= 33


def test_numbers_are_told_either_way_round():
    members = np.arange(60) % 2 == 0
    for sign in (1, -1):
        found = examine(members).ask_numbers(sign * members.astype(float))
        assert found.value == 1
        assert found.is_notable


def test_samples_without_a_value_are_left_out():
    members = np.arange(60) % 2 == 0
    values = np.where(np.arange(60) < 40, members, np.nan)
    assert examine(members).ask_numbers(values).value == 1
    categories = pd.Series(np.where(members, "a", "b")).where(np.arange(60) < 40)
    assert examine(members).ask_categories(categories).value == 1


def test_too_few_of_a_kind_are_not_asked_about():
    members = np.arange(60) < small_model.FEWEST - 1
    assert examine(members).ask_numbers(members.astype(float)) is None


def test_several_categories_are_learned_on_other_samples():
    rng = np.random.default_rng(2)
    level = rng.integers(0, 6, 300)
    members = rng.random(300) < np.array([0.9, 0.1, 0.9, 0.1, 0.5, 0.5])[level]
    found = examine(members).ask_categories(pd.Series(level))
    assert 0.7 < found.value < 0.95
    assert found.is_notable
    # Names that no other sample has teach nothing.
    assert examine(members).ask_categories(pd.Series(np.arange(300))).value == 0.5


def test_what_sets_groups_apart_plays_no_part_where_they_mix_the_kinds():
    rng = np.random.default_rng(3)
    groups = np.repeat([0, 1], 150)
    members = rng.random(300) < np.where(groups == 0, 0.8, 0.2)
    by_plate = 5.0 * groups + rng.standard_normal(300)
    assert not examine(members, groups).ask_numbers(by_plate).beyond_chance
    assert examine(members).ask_numbers(by_plate).beyond_chance


def test_the_contrast_that_is_told_best_is_named():
    kinds = np.arange(90) % 3
    contrasts = [Contrast(name, "the rest", kinds == n) for n, name in enumerate("abc")]
    found = Examiner(contrasts, np.arange(90), 1).ask_numbers((kinds == 1).astype(float))
    assert found is not None
    assert found.contrast.name == "b"


def test_more_looks_widen_the_bounds():
    rng = np.random.default_rng(4)
    members = rng.random(200) < 0.5
    values = rng.standard_normal(200) + members
    one, many = (examine(members, looks=n).ask_numbers(values) for n in (1, 50))
    assert one.value == many.value
    assert many.low < one.low < one.high < many.high
