"""The area and its error, against their definitions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.audit.auroc import JackknifedAuroc
from engine.statistics import delong_test


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
    # A constant score has no variance, so that the difference from it has that of the area.
    constant, target = torch.zeros(300), torch.from_numpy(members).long()
    known = delong_test(torch.from_numpy(scores), constant, target)
    assert found is not None
    assert found.value == pytest.approx(known.auc_a)
    assert 2 * 1.96 * found.error == pytest.approx(known.high - known.low, rel=0.02)


def test_a_perfect_ranking_is_as_unsure_as_its_scarcer_kind_is_small():
    members = np.arange(40) < 8
    found = JackknifedAuroc.measure(
        members.astype(float), members, np.zeros(40, dtype=int), np.arange(40)
    )
    assert found == JackknifedAuroc(1.0, 1 / 8, 40)


def test_samples_that_go_together_are_no_more_sure_than_one_of_them():
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
