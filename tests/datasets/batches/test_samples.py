from __future__ import annotations

import pickle

import numpy as np
import pytest

from datasets.batches import LazyBatch, Sample

COUNTS = [2, 1, 3]
PADDED = [[0, 1, -1], [2, -1, -1], [3, 4, 5]]  # each sample's scans among all; -1 for none


def made_one_by_one() -> list[Sample]:
    rng = np.random.default_rng(0)
    return [
        Sample(rng.random((count, 5), np.float32), rng.random(2, np.float32), place, f"s{place}")
        for place, count in enumerate(COUNTS)
    ]


class Reads:
    """Samples that are read when asked for, and how they were read."""

    def __init__(self) -> None:
        self.samples = made_one_by_one()
        self.asked: list[int | None] = []
        self.together = LazyBatch(
            self.read,
            np.array(COUNTS),
            np.stack([sample.tabular for sample in self.samples]),
            np.arange(3),
            [sample.sample_id for sample in self.samples],
        )

    def read(self, most: int | None) -> np.ndarray:
        self.asked.append(most)
        return LazyBatch.of(self.samples).scans(most)


@pytest.fixture
def reads() -> Reads:
    return Reads()


def assert_same(ours: object, theirs: list[Sample]) -> None:
    assert [sample.sample_id for sample in ours] == [sample.sample_id for sample in theirs]  # type: ignore[attr-defined]
    for one, two in zip(ours, theirs, strict=True):  # type: ignore[call-overload]
        np.testing.assert_array_equal(one.spectra, two.spectra)
        np.testing.assert_array_equal(one.tabular, two.tabular)
        assert one.target == two.target


@pytest.mark.parametrize("most", [None, 3, 4])
def test_scans_are_read_once_and_as_they_are_wanted(reads, most):
    scans = reads.together.scans(most)
    assert reads.together.scans(most) is scans
    assert_same(reads.together, reads.samples)
    assert reads.asked == [most]


def test_nothing_is_read_before_it_is_asked_for(reads):
    assert len(reads.together) == 3
    assert reads.together.sample_id == ["s0", "s1", "s2"]
    assert not reads.asked


@pytest.mark.parametrize("most", [None, 3, 4])
def test_a_samples_scans_are_a_piece_of_what_was_read(reads, most):
    scans = reads.together.scans(most)
    assert all(np.shares_memory(sample.spectra, scans) for sample in reads.together)


@pytest.mark.parametrize(("before", "after"), [(None, 3), (3, None), (3, 4)])
def test_what_was_read_before_can_be_laid_out_otherwise(reads, before, after):
    reads.together.scans(before)
    np.testing.assert_array_equal(
        reads.together.scans(after), LazyBatch.of(reads.samples).scans(after)
    )
    assert reads.asked == [before]


def test_padding_is_zero_and_behind_a_samples_own_scans():
    samples = made_one_by_one()
    packed = np.concatenate([sample.spectra for sample in samples])
    blank = np.vstack([packed, np.zeros((1, 5), np.float32)])
    together = LazyBatch.of(samples)
    np.testing.assert_array_equal(together.scans(3), blank[np.ravel(PADDED)])
    np.testing.assert_array_equal(together.scans(), packed)


def test_where_nothing_is_padded_both_ways_are_one(reads):
    samples = LazyBatch.of(reads.samples[:1])
    assert samples.scans(2) is samples.scans()


def test_they_can_be_looked_at_like_a_list(reads):
    assert_same(reads.together[1:], reads.samples[1:])
    assert_same([reads.together[-1]], reads.samples[-1:])
    with pytest.raises(IndexError):
        reads.together[3]


def test_to_another_process_go_the_samples_alone(reads):
    together = LazyBatch(lambda most: reads.read(most), *parts(reads.together))
    again = pickle.loads(pickle.dumps(together))  # a lambda could not be sent
    assert_same(again, reads.samples)


def parts(together: LazyBatch) -> tuple[np.ndarray, np.ndarray, np.ndarray, list[str]]:
    return together.counts, together.tabular, together.target, together.sample_id
