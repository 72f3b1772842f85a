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
from datasets.loading.samplers import BucketBatchSampler, EpochBatchSampler

WORLDS = (1, 2, 3)
LENGTHS = st.lists(st.integers(1, 40), min_size=9, max_size=80)
# The longest sample fits into a batch by itself.
BUDGETS = st.one_of(st.none(), st.integers(40, 200))
SPREADS = st.sampled_from([0.0, 0.1, 1.0])


def sampler(n: object = 10, batch_size: int = 3, **changes: object) -> EpochBatchSampler:
    settings = {"shuffle": True, "seed": 7, **changes}
    return EpochBatchSampler(n, batch_size, **settings)  # type: ignore[arg-type]


def test_an_epoch_holds_every_sample_once():
    batches = list(sampler())
    assert [len(batch) for batch in batches] == [3, 3, 3, 1]
    assert sorted(index for batch in batches for _, index in batch) == list(range(10))
    assert {epoch for batch in batches for epoch, _ in batch} == {1}


def test_keys_are_plain_numbers():
    assert all(type(part) is int for batch in sampler() for key in batch for part in key)


def test_a_last_batch_that_is_not_full_can_be_dropped():
    dropping = sampler(drop_last=True)
    assert [len(batch) for batch in dropping] == [3, 3, 3]
    assert len(dropping) == 3
    assert len(sampler(9)) == len(sampler(9, drop_last=True)) == 3


def test_the_order_depends_on_seed_and_epoch_alone():
    one, two = sampler(100), sampler(100)
    for epoch in (1, 2, 3):
        one.set_epoch(epoch)
        list(one)
    two.set_epoch(3)
    np.random.default_rng(0).random()
    assert list(one) == list(two)
    assert np.concatenate(one.plan(3)).tolist() != np.concatenate(one.plan(2)).tolist()
    assert (
        np.concatenate(one.plan(3)).tolist()
        != np.concatenate(sampler(100, seed=8).plan(3)).tolist()
    )


def test_order_and_augmentation_share_no_random_stream():
    augmenting = np.random.default_rng((7, 3, 0)).permutation(100)
    assert np.concatenate(sampler(100).plan(3)).tolist() != augmenting.tolist()


def test_without_shuffling_the_given_order_stays():
    plain = sampler([5, 2, 9], batch_size=2, shuffle=False)
    plain.set_epoch(4)
    assert list(plain) == [[(4, 5), (4, 2)], [(4, 9)]]


def test_only_the_given_indices_are_drawn():
    drawn = [index for batch in sampler(np.array([5, 2, 9])) for _, index in batch]
    assert sorted(drawn) == [2, 5, 9]


@pytest.mark.parametrize("position", [0, 1, 3, 4])
def test_a_resumed_epoch_yields_exactly_the_remaining_batches(position):
    whole = sampler()
    whole.set_epoch(5)
    resumed = sampler()
    resumed.resume_at(5, position)
    resumed.set_epoch(5)
    assert len(resumed) == 4
    assert list(resumed) == list(whole)[position:]
    assert list(resumed) == list(whole)


def test_an_unused_iterator_takes_nothing_of_a_resumed_epoch():
    resumed = sampler()
    resumed.resume_at(2, 3)
    unused, batches = iter(resumed), iter(resumed)
    del unused
    assert len(list(batches)) == 1
    assert len(list(resumed)) == 4


def test_the_next_epoch_after_a_resumed_one_is_whole():
    resumed = sampler()
    resumed.resume_at(2, 3)
    resumed.set_epoch(3)
    assert len(list(resumed)) == 4


def test_an_iteration_keeps_the_epoch_it_began_with():
    running = sampler()
    batches = iter(running)
    running.set_epoch(2)
    assert next(batches)[0][0] == 1


def test_the_state_survives_a_weights_only_load_and_continues():
    before = sampler()
    before.set_epoch(4)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = sampler()
    after.load_state_dict(torch.load(file, weights_only=True))
    after.resume_at(after.epoch, 1)
    assert list(after) == list(before)[1:]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"n": 11}, "n was 10, now 11"),
        ({"batch_size": 4}, "batch_size was 3, now 4"),
        ({"seed": 8}, "seed was 7, now 8"),
        ({"shuffle": False}, "shuffle was True, now False"),
        ({"drop_last": True}, "drop_last was False, now True"),
    ],
)
def test_a_state_of_other_batches_is_refused_naming_what_differs(changed, said):
    with pytest.raises(UsageError, match=said):
        sampler(**changed).load_state_dict(sampler().state_dict())


def test_a_position_outside_the_epoch_is_refused():
    with pytest.raises(UsageError, match="batch 5 of epoch 2: it has 4 batches"):
        sampler().resume_at(2, 5)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"batch_size": 0}, "batch_size: a whole number at least 1 was expected, not 0"),
        ({"batch_size": 2.5}, "batch_size: a whole number"),
        ({"seed": -1}, "seed: a whole number at least 0 was expected, not -1"),
        ({"n": 0}, "no sample"),
        ({"n": 2, "drop_last": True}, "batch_size 3 with drop_last leaves no batch of 2 samples"),
        (
            {"n": 5, "drop_last": True, "world_size": 2},
            "no batch of 5 samples to each of 2 processes",
        ),
        ({"n": 2, "world_size": 3}, "3 processes cannot share 2 samples evenly"),
        ({"rank": 1}, "rank: a whole number between 0 and 0 was expected, not 1"),
        ({"world_size": 0}, "world_size: a whole number at least 1"),
    ],
)
def test_what_makes_no_batches_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        sampler(**arguments)


@pytest.mark.parametrize("world_size", [1, 2, 3])
@pytest.mark.parametrize("n", [9, 10, 20])
def test_processes_that_train_share_an_epoch_evenly(n, world_size):
    processes = [sampler(n, rank=rank, world_size=world_size) for rank in range(world_size)]
    for epoch in (1, 2):
        for process in processes:
            process.set_epoch(epoch)
        batches = [list(process) for process in processes]
        assert {len(own) for own in batches} == {len(processes[0])}
        held = sorted(index for own in batches for batch in own for _, index in batch)
        assert held == list(range(n))


def test_alone_or_together_the_order_is_the_same():
    alone, pair = list(sampler(12)), [list(sampler(12, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [batch for step in zip(*pair, strict=True) for batch in step] == alone


def test_processes_take_batches_of_similar_scan_counts():
    lengths = np.random.default_rng(0).integers(1, 17, 640)
    settings = {"n": 640, "batch_size": 8}
    plain = [list(sampler(**settings, rank=rank, world_size=2)) for rank in (0, 1)]
    balanced = [
        list(sampler(**settings, lengths=lengths, rank=rank, world_size=2)) for rank in (0, 1)
    ]

    def waste(processes):
        scans = np.array(
            [[sum(lengths[i] for _, i in batch) for batch in own] for own in processes]
        )
        return scans.max(axis=0).sum() / scans.mean(axis=0).sum() - 1

    assert waste(plain) > 0.05
    assert waste(balanced) < 0.01

    def batches(processes):
        return sorted(batch for own in processes for batch in own)

    assert batches(balanced) == batches(plain)
    scans = [sum(lengths[i] for _, i in batch) for batch in balanced[0]]
    assert scans != sorted(scans), "the steps are not shuffled"


def test_balanced_epochs_differ_and_follow_from_the_seed():
    def plans(seed):
        one = sampler(40, lengths=np.arange(1, 41), world_size=2, seed=seed)
        return [[batch.tolist() for batch in one.plan(epoch)] for epoch in (1, 2)]

    first, second = plans(7)
    assert plans(7) == [first, second]
    assert first != second
    assert plans(8) != [first, second]


def test_lengths_change_nothing_for_a_single_process():
    lengths = np.arange(1, 11)
    for settings in (
        {"world_size": 1},
        {"world_size": 2, "even": False},
        {"world_size": 2, "shuffle": False},
    ):
        plain, told = sampler(**settings), sampler(**settings, lengths=lengths)
        assert list(told) == list(plain)
        assert told.state_dict() == plain.state_dict()
    told = sampler(world_size=2, lengths=lengths)
    with pytest.raises(UsageError, match="lengths was"):
        sampler(world_size=2).load_state_dict(told.state_dict())


def test_processes_that_evaluate_share_the_batches_as_they_are():
    settings = {"shuffle": False, "even": False, "world_size": 3}
    shares = [list(sampler(4, rank=rank, **settings)) for rank in range(3)]
    assert shares == [[[(1, 0), (1, 1), (1, 2)]], [[(1, 3)]], []]
    resumed = sampler(20, rank=1, **settings)
    resumed.resume_at(2, 1)
    assert list(resumed) == [[(2, 12), (2, 13), (2, 14)]]


def test_dropping_leaves_out_batches_not_all_processes_get():
    shares = [list(sampler(10, drop_last=True, rank=rank, world_size=2)) for rank in (0, 1)]
    assert [len(batch) for own in shares for batch in own] == [3, 3]


def test_classes_are_drawn_equally_in_an_epoch_as_long():
    strata = np.array([0] * 24 + [1] * 6)
    balanced = sampler(30, strata=strata)
    keys = [key for batch in balanced for key in batch]
    assert len(balanced) == 10
    assert np.bincount(strata[[key[1] for key in keys]]).tolist() == [15, 15]
    # A sample that is drawn again is another key, so that it is augmented otherwise.
    assert len(set(keys)) == len(keys)
    assert {key[2] for key in keys if len(key) == 3} == {1, 2}


def test_balanced_batches_resume_only_with_the_same_strata():
    strata = [0, 0, 0, 1] * 5
    whole, resumed = sampler(20, strata=strata), sampler(20, strata=strata)
    resumed.load_state_dict(whole.state_dict())
    resumed.resume_at(1, 4)
    assert list(resumed) == list(whole)[4:]
    with pytest.raises(UsageError, match="strata was None"):
        whole.load_state_dict(sampler(20).state_dict())
    with pytest.raises(UsageError, match="world_size was 1, now 2"):
        sampler(world_size=2).load_state_dict(sampler().state_dict())


def test_every_process_knows_the_sizes_of_all_batches():
    shared = [sampler(batch_size=4, rank=rank, world_size=2) for rank in range(2)]
    sizes = shared[0].batch_sizes(2)
    assert sum(sizes) == 10
    for rank, one in enumerate(shared):
        one.set_epoch(2)
        assert one.batch_sizes(2) == sizes
        assert [len(batch) for batch in one] == sizes[rank::2]


def buckets(lengths: object = tuple(range(1, 31)), batch_size: int = 4, **changes: object):
    arguments: dict[str, Any] = {"shuffle": True, "seed": 7, **changes}
    return BucketBatchSampler(lengths, batch_size, **arguments)  # type: ignore[arg-type]


def indices(batches: object) -> list[int]:
    return [key[1] for batch in batches for key in batch]  # type: ignore[attr-defined]


def shared(lengths: object, world_size: int, epoch: int = 1, **changes: Any) -> list[list[Any]]:
    """Each process's batches of an epoch."""
    processes = [
        buckets(lengths, rank=rank, world_size=world_size, **changes) for rank in range(world_size)
    ]
    for process in processes:
        process.set_epoch(epoch)
    return [list(process) for process in processes]


def together(shares: list[list[Any]]) -> list[Any]:
    """All processes' batches."""
    return [batch for own in shares for batch in own]


def can_share(lengths: list[int], world_size: int, **changes: Any) -> bool:
    """Whether there are as many samples as batches, which very few samples of many are not."""
    alone = buckets(lengths, **changes)
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
    alone = list(buckets(lengths, **changes))
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
def test_every_epoch_has_as_many_batches_with_strata_too(
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


@pytest.mark.slow
@given(lengths=LENGTHS, max_scans=BUDGETS, data=st.data())
def test_a_resumed_epoch_of_buckets_yields_the_rest(lengths, max_scans, data):
    whole, resumed = (buckets(lengths, max_scans=max_scans, strata=lengths) for _ in range(2))
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
    batches = list(buckets(lengths, batch_size=batch_size, max_scans=max_scans))
    padded = sum(len(batch) * max(lengths[index] for _, index in batch) for batch in batches)
    assert 1 - lengths.sum() / padded <= 0.1


def test_a_budget_is_used():
    lengths = np.random.default_rng(0).integers(1, 33, 2000)
    batches = list(buckets(lengths, batch_size=32, max_scans=256))
    full = -(-lengths.sum() // 256)
    assert full <= len(batches) <= 1.15 * full


def test_no_batch_is_much_smaller_than_the_others():
    assert sorted(len(batch) for batch in buckets([3] * 33, batch_size=16)) == [8, 9, 16]


def test_samples_mix_within_buckets_and_batches_are_shuffled():
    lengths = [10, 11] * 50
    batches = list(buckets(lengths, batch_size=10, spread=0.1))
    assert any(len({lengths[index] for _, index in batch}) == 2 for batch in batches)
    apart = list(buckets(lengths, batch_size=10, spread=0.0))
    assert all(len({lengths[index] for _, index in batch}) == 1 for batch in apart)
    longest = [max(lengths[index] for _, index in batch) for batch in apart]
    assert longest not in (sorted(longest), sorted(longest, reverse=True))


def test_the_order_of_buckets_depends_on_seed_and_epoch():
    one, two = buckets(), buckets()
    for epoch in (1, 2, 3):
        one.set_epoch(epoch)
        list(one)
    two.set_epoch(3)
    assert list(one) == list(two)
    one.set_epoch(4)
    assert indices(one) != indices(two)
    other = buckets(seed=8)
    other.set_epoch(3)
    assert indices(other) != indices(two)


def test_without_shuffling_the_longest_come_first():
    plain = buckets([1, 9, 1, 9, 9], batch_size=2, shuffle=False)
    plain.set_epoch(6)
    assert indices(plain) == [1, 3, 4, 0, 2]


def test_what_processes_take_at_the_same_time_is_about_as_long():
    lengths = np.random.default_rng(0).integers(1, 33, 640)
    first, second = shared(lengths, 2, batch_size=10)
    longest = [[max(lengths[i] for _, i in batch) for batch in own] for own in (first, second)]
    assert np.abs(np.diff(longest, axis=0)).max() <= 4


def test_samples_that_an_epoch_holds_again_are_numbered():
    keys = [key for batch in buckets([2] * 6, strata=[0, 1, 1, 1, 1, 1]) for key in batch]
    assert sorted(key for key in keys if key[1] == 0) == [(1, 0), (1, 0, 1), (1, 0, 2)]
    assert len(set(keys)) == len(keys) == 6


def test_the_state_of_buckets_survives_a_weights_only_load():
    before = buckets(max_scans=60, strata=[0, 1, 1] * 10)
    before.set_epoch(4)
    file = io.BytesIO()
    torch.save(before.state_dict(), file)
    file.seek(0)
    after = buckets(max_scans=60, strata=[0, 1, 1] * 10)
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
def test_a_state_of_other_buckets_is_refused(changes, said):
    state = buckets(max_scans=60).state_dict()
    with pytest.raises(UsageError, match=said):
        buckets(**{"max_scans": 60, **changes}).load_state_dict(state)


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
def test_what_makes_no_buckets_is_refused(arguments, said):
    with pytest.raises(UsageError, match=said):
        buckets(**arguments)


def test_a_sample_without_scans_is_no_sample():
    with pytest.raises(ValueError, match="sample 1 has no scan"):
        buckets([1, 0, 2])
