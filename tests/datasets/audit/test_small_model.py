"""What one feature tells, and that nothing is read into chance."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.audit import small_model
from datasets.audit.small_model import Contrast, Examiner, JackknifedAuroc, make_contrasts
from engine.statistics import delong_test

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


def test_group_effects_have_no_part_in_mixed_groups():
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


def area(scores, members, blocks, kept):
    """Over all pairs of a block, by its definition."""
    won = pairs = 0.0
    for block in np.unique(blocks):
        inside = scores[kept & members & (blocks == block)][:, None]
        outside = scores[kept & ~members & (blocks == block)][None]
        won += ((inside > outside) + 0.5 * (inside == outside)).sum()
        pairs += inside.size * outside.size
    return won / pairs if pairs else None


@settings(max_examples=60)
@given(st.integers(0, 10_000), st.sampled_from([1, 2, 3]))
def test_area_and_error_are_those_of_the_definition(seed, block_count):
    rng = np.random.default_rng(seed)
    units = np.unique(rng.integers(0, 12, 40), return_inverse=True)[1]
    blocks = np.unique(units % block_count, return_inverse=True)[1]
    scores, members = rng.integers(0, 6, 40).astype(float), rng.random(40) < 0.4
    found = JackknifedAuroc.measure(scores, members, blocks, units)
    whole = area(scores, members, blocks, np.ones(40, dtype=bool))
    without = [area(scores, members, blocks, units != unit) for unit in range(units.max() + 1)]
    if whole is None or None in without:
        assert found is None
        return
    count = len(without)
    error = (count - 1) ** 0.5 * np.std(without)
    assert found is not None
    assert found.value == pytest.approx(whole)
    scarcer = min(len(np.unique(units[members])), len(np.unique(units[~members])))
    assert found.error == pytest.approx(max(error, 1 / scarcer))


def test_for_samples_on_their_own_the_error_comes_near_delongs():
    rng = np.random.default_rng(0)
    members = rng.random(300) < 0.4
    scores = rng.standard_normal(300) + members
    found = JackknifedAuroc.measure(scores, members, np.zeros(300, dtype=int), np.arange(300))
    # Against scores that tell nothing, whose area is 1/2 without an error.
    known = delong_test(
        torch.from_numpy(scores), torch.zeros(300), torch.from_numpy(members).long()
    )
    assert found is not None
    assert found.value == pytest.approx(known.auc_a)
    assert 2 * 1.96 * found.error == pytest.approx(known.high - known.low, rel=0.02)


def test_a_perfect_ranking_is_as_uncertain_as_its_rarer_class():
    members = np.arange(40) < 8
    found = JackknifedAuroc.measure(
        members.astype(float), members, np.zeros(40, dtype=int), np.arange(40)
    )
    assert found == JackknifedAuroc(1.0, 1 / 8, 40)


def test_dependent_samples_are_no_more_certain_than_one():
    rng = np.random.default_rng(1)
    members = rng.random(60) < 0.5
    scores = rng.standard_normal(60) + members
    once = JackknifedAuroc.measure(scores, members, np.zeros(60, dtype=int), np.arange(60))
    many = np.repeat(np.arange(60), 9)
    ninefold = JackknifedAuroc.measure(scores[many], members[many], np.zeros(540, dtype=int), many)
    assert once is not None
    assert ninefold is not None
    assert ninefold.error == pytest.approx(once.error)


def test_without_both_kinds_in_a_block_there_is_no_area():
    members = np.array([True, True, False, False])
    blocks = np.array([0, 0, 1, 1])
    assert JackknifedAuroc.measure(np.arange(4.0), members, blocks, np.arange(4)) is None


def test_two_classes_are_one_contrast(make_cohort):
    cohort = make_cohort()
    (only,) = make_contrasts(cohort)
    assert (only.name, only.other, only.target) == ("case", "control", "the label")
    assert (only.members == (cohort.targets == 1)).all()


def test_more_classes_are_each_against_the_rest(make_cohort):
    def put(files):
        files.samples["stage"] = np.array(["I", "II", "none", "none"])[np.arange(200) % 4]

    found = make_contrasts(make_cohort(put, label="stage"))
    assert [c.target for c in found] == [
        f"the label ({name} against the rest)" for name in ("I", "II", "none")
    ]
    assert [int(c.members.sum()) for c in found] == [50, 50, 100]


def test_each_label_of_several_is_a_contrast(make_cohort):
    def put(files):
        files.samples["liver"], files.samples["heart"] = np.arange(200) % 2, np.arange(200) % 5 == 0
        files.samples["heart"] = files.samples["heart"].astype(int)

    found = make_contrasts(make_cohort(put, label=["liver", "heart"], task="multilabel"))
    assert [(c.name, c.other, int(c.members.sum())) for c in found] == [
        ("liver=1", "liver=0", 100),
        ("heart=1", "heart=0", 40),
    ]


def test_values_are_split_at_their_median(make_cohort):
    found = make_contrasts(make_cohort(label="BMI", task="regression"))
    assert found[0].target == "BMI"
    assert abs(int(found[0].members.sum()) - 100) < 5
