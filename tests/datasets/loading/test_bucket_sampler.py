from __future__ import annotations

import io
from collections import Counter
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from datasets.errors import UsageError
from datasets.loading.bucket_sampler import BucketBatchSampler

WORLDS = (1, 2, 3)
LENGTHS = st.lists(st.integers(1, 40), min_size=9, max_size=80)
# The longest sample fits into a batch by itself.
BUDGETS = st.one_of(st.none(), st.integers(40, 200))
SPREADS = st.sampled_from([0.0, 0.1, 1.0])


def sampler(lengths: object = tuple(range(1, 31)), batch_size: int = 4, **changes: object):
    arguments: dict[str, Any] = {"shuffle": True, "seed": 7, **changes}
    return BucketBatchSampler(lengths, batch_size, **arguments)  # type: ignore[arg-type]


def indices(batches: object) -> list[int]:
    return [key[1] for batch in batches for key in batch]  # type: ignore[attr-defined]


def shared(lengths: object, world_size: int, epoch: int = 1, **changes: Any) -> list[list[Any]]:
    """Each process's batches of an epoch."""
    processes = [
        sampler(lengths, rank=rank, world_size=world_size, **changes) for rank in range(world_size)
    ]
    for process in processes:
        process.set_epoch(epoch)
    return [list(process) for process in processes]


def together(shares: list[list[Any]]) -> list[Any]:
    """All processes' batches."""
    return [batch for own in shares for batch in own]


def can_share(lengths: list[int], world_size: int, **changes: Any) -> bool:
    """Whether there are as many samples as batches, which very few samples of many are not."""
    alone = sampler(lengths, **changes)
    return -(-len(alone) // world_size) * world_size <= len(lengths)


@pytest.mark.slow
@given(
    lengths=LENGTHS,
    batch_size=st.integers(1, 20),
    max_scans=BUDGETS,
    spread=SPREADS,
    world_size=st.sampled_from(WORLDS),
    shuffle=st.booleans(),
)
def test_all_processes_together_hold_each_sample_once_an_epoch(
    lengths, batch_size, max_scans, spread, world_size, shuffle
):
    changes = {"batch_size": batch_size, "max_scans": max_scans, "spread": spread}
    if not can_share(lengths, world_size, **changes):
        return
    for epoch in (1, 2):
        batches = shared(lengths, world_size, epoch, shuffle=shuffle, **changes)
        assert sorted(indices(together(batches))) == list(range(len(lengths)))
        assert len({len(own) for own in batches}) == 1
        for batch in together(batches):
            assert 1 <= len(batch) <= batch_size
            padded = len(batch) * max(lengths[index] for _, index in batch)
            assert max_scans is None or padded <= max_scans


@given(
    lengths=st.lists(st.integers(1, 40), min_size=1, max_size=40),
    batch_size=st.integers(1, 20),
    world_size=st.sampled_from(WORLDS),
)
def test_in_evaluation_nothing_is_evened_out_and_nothing_padded(lengths, batch_size, world_size):
    changes = {"batch_size": batch_size, "shuffle": False, "even": False}
    alone = list(sampler(lengths, **changes))
    batches = shared(lengths, world_size, **changes)
    assert sorted(indices(together(batches))) == list(range(len(lengths)))
    assert [own for rank in range(world_size) for own in batches[rank]] == [
        batch for rank in range(world_size) for batch in alone[rank::world_size]
    ]
    longest = [max(lengths[index] for _, index in batch) for batch in alone]
    assert longest == sorted(longest, reverse=True)


def test_a_process_may_have_nothing_to_evaluate():
    batches = shared([3, 4], 3, batch_size=2, shuffle=False, even=False)
    assert [len(own) for own in batches] == [1, 0, 0]


@pytest.mark.slow
@given(
    samples=st.lists(st.tuples(st.integers(1, 30), st.integers(0, 3)), min_size=6, max_size=60),
    batch_size=st.integers(1, 12),
    max_scans=st.one_of(st.none(), st.integers(30, 120)),
    world_size=st.sampled_from((1, 2)),
)
def test_every_epoch_has_as_many_batches_also_of_samples_that_are_drawn(
    samples, batch_size, max_scans, world_size
):
    lengths, strata = map(list, zip(*samples, strict=True))
    changes = {"batch_size": batch_size, "max_scans": max_scans, "strata": strata}
    if not can_share(lengths, world_size, **changes):
        return
    counts: set[int] = set()
    for epoch in range(1, 5):
        batches = shared(lengths, world_size, epoch, **changes)
        counts.update(len(own) for own in batches)
        held = indices(together(batches))
        often = Counter(strata[index] for index in held)
        assert len(held) == len(lengths)
        assert max(often.values()) - min(often.values()) <= 1
        for batch in together(batches):
            assert max_scans is None or (
                len(batch) * max(lengths[key[1]] for key in batch) <= max_scans
            )
    assert len(counts) == 1


@given(lengths=LENGTHS, max_scans=BUDGETS, data=st.data())
def test_a_resumed_epoch_yields_exactly_the_remaining_batches(lengths, max_scans, data):
    whole, resumed = (sampler(lengths, max_scans=max_scans, strata=lengths) for _ in range(2))
    position = data.draw(st.integers(0, len(whole)))
    whole.set_epoch(5)
    resumed.resume_at(5, position)
    resumed.set_epoch(5)
    assert len(resumed) == len(whole)
    assert list(resumed) == list(whole)[position:]
    assert list(resumed) == list(whole)


@pytest.mark.parametrize(("samples", "batch_size"), [(2000, 32), (500, 16), (5000, 64)])
@pytest.mark.parametrize("max_scans", [None, 256])
def test_at_most_a_tenth_is_padded(samples, batch_size, max_scans):
    lengths = np.random.default_rng(0).integers(1, 33, samples)
    batches = list(sampler(lengths, batch_size=batch_size, max_scans=max_scans))
    padded = sum(len(batch) * max(lengths[index] for _, index in batch) for batch in batches)
    assert 1 - lengths.sum() / padded <= 0.1


def test_a_budget_is_used():
    lengths = np.random.default_rng(0).integers(1, 33, 2000)
    batches = list(sampler(lengths, batch_size=32, max_scans=256))
    full = -(-lengths.sum() // 256)
    assert full <= len(batches) <= 1.15 * full


def test_no_batch_is_much_smaller_than_the_others():
    assert sorted(len(batch) for batch in sampler([3] * 33, batch_size=16)) == [8, 9, 16]


def test_samples_mix_within_their_bucket_and_batches_come_in_any_order():
    lengths = [10, 11] * 50
    batches = list(sampler(lengths, batch_size=10, spread=0.1))
    assert any(len({lengths[index] for _, index in batch}) == 2 for batch in batches)
    apart = list(sampler(lengths, batch_size=10, spread=0.0))
    assert all(len({lengths[index] for _, index in batch}) == 1 for batch in apart)
    longest = [max(lengths[index] for _, index in batch) for batch in apart]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_the_order_depends_on_seed_and_epoch_alone():
    one, two = sampler(), sampler()
    for epoch in (1, 2, 3):
        one.set_epoch(epoch)
        list(one)
    two.set_epoch(3)
    assert list(one) == list(two)
    one.set_epoch(4)
    assert indices(one) != indices(two)
    other = sampler(seed=8)
    other.set_epoch(3)
    assert indices(other) != indices(two)


def test_without_shuffling_the_longest_come_first_and_equals_as_given():
    plain = sampler([1, 9, 1, 9, 9], batch_size=2, shuffle=False)
    plain.set_epoch(6)
    assert indices(plain) == [1, 3, 4, 0, 2]


def test_what_processes_take_at_the_same_time_is_about_as_long():
    lengths = np.random.default_rng(0).integers(1, 33, 640)
    first, second = shared(lengths, 2, batch_size=10)
    longest = [[max(lengths[i] for _, i in batch) for batch in own] for own in (first, second)]
    assert np.abs(np.diff(longest, axis=0)).max() <= 4


def test_samples_that_an_epoch_holds_again_are_numbered():
    keys = [key for batch in sampler([2] * 6, strata=[0, 1, 1, 1, 1, 1]) for key in batch]
    assert sorted(key for key in keys if key[1] == 0) == [(1, 0), (1, 0, 1), (1, 0, 2)]
    assert len(set(keys)) == len(keys) == 6


def test_the_state_survives_a_weights_only_load_and_continues():
    before = sampler(max_scans=60, strata=[0, 1, 1] * 10)
    before.set_epoch(4)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = sampler(max_scans=60, strata=[0, 1, 1] * 10)
    after.load_state_dict(torch.load(file, weights_only=True))
    after.resume_at(after.epoch, 1)
    assert list(after) == list(before)[1:]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"lengths": [*range(1, 30), 31]}, "lengths was"),
        ({"batch_size": 5}, "batch_size was 4, now 5"),
        ({"max_scans": 70}, "max_scans was 60, now 70"),
        ({"spread": 0.2}, "spread was 0.1, now 0.2"),
        ({"strata": [0, 1] * 15}, "strata was None"),
        ({"seed": 8}, "seed was 7, now 8"),
        ({"world_size": 2}, "world_size was 1, now 2"),
    ],
)
def test_a_state_of_other_batches_is_refused_naming_what_differs(changes, said):
    state = sampler(max_scans=60).state_dict()
    with pytest.raises(UsageError, match=said):
        sampler(**{"max_scans": 60, **changes}).load_state_dict(state)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"lengths": []}, "no sample"),
        ({"max_scans": 29}, "a batch may have 29 scans, but one sample has 30"),
        ({"max_scans": 0}, "max_scans: a whole number at least 1"),
        ({"batch_size": 0}, "batch_size: a whole number at least 1"),
        ({"spread": -1}, "spread: a number at least 0"),
        ({"rank": 2, "world_size": 2}, "rank: a whole number between 0 and 1 was expected, not 2"),
        ({"lengths": [1, 1], "world_size": 3}, "3 processes cannot share 2 samples evenly"),
    ],
)
def test_what_makes_no_batches_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        sampler(**arguments)


def test_a_sample_without_scans_is_no_sample():
    with pytest.raises(ValueError, match="sample 1 has no scan"):
        sampler([1, 0, 2])
