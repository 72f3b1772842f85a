from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch

from datasets.batches.batch import Batch, pad_collate
from datasets.batches.packed_batch import PackedBatch, packed_collate
from datasets.batches.samples import LazyBatch, Sample
from datasets.loading import SpectraDataset

PARTS = ("spectra", "mask", "tabular", "target", "scan_rows")


def samples(*counts: int) -> list[Sample]:
    rng = np.random.default_rng(0)
    return [
        Sample(
            rng.random((count, 5), np.float32), rng.random(3, np.float32), place % 2, f"s{place}"
        )
        for place, count in enumerate(counts)
    ]


def assert_same(one: Batch | PackedBatch, two: Batch) -> None:
    assert one.sample_id == two.sample_id
    for name in PARTS:
        ours, theirs = getattr(one, name), getattr(two, name)
        assert torch.equal(ours, theirs)
        assert ours.dtype == theirs.dtype


@pytest.mark.parametrize("counts", [(1, 3, 2), (2, 2), (1,)])
@pytest.mark.parametrize("pad_rows_to", [None, 4])
@pytest.mark.parametrize("pad_scans_to", [None, 3])
def test_on_the_device_it_is_what_padding_would_have_made(counts, pad_rows_to, pad_scans_to):
    packed = packed_collate(samples(*counts), pad_rows_to, pad_scans_to)
    padded = pad_collate(samples(*counts), pad_rows_to, pad_scans_to)
    assert isinstance(packed.to("cpu"), Batch)
    assert_same(packed.to("cpu"), padded)
    assert_same(packed, padded)


@pytest.mark.parametrize("pad_scans_to", [None, 8])
def test_only_real_scans_are_held(pad_scans_to):
    packed = packed_collate(samples(1, 3, 2), pad_scans_to=pad_scans_to)
    assert packed.scans.shape == (6, 5)
    assert len(packed) == 3
    assert torch.equal(packed.scans, packed.spectra[packed.mask])


def test_every_tensor_moves_to_the_device():
    moved = packed_collate(samples(1, 3)).to("meta", non_blocking=True)
    assert moved.spectra.shape == (2, 3, 5)
    assert all(getattr(moved, name).device.type == "meta" for name in PARTS)


@pytest.fixture
def read() -> LazyBatch:
    spectra = np.random.default_rng(0).random((6, 5), np.float32)
    rows = [np.array([4, 0]), np.array([3, 1])]
    dataset = SpectraDataset(spectra, rows, np.zeros((2, 1)), np.array([0, 1]), list("ab"))
    samples = dataset.__getitems__([1, 0])
    assert isinstance(samples, LazyBatch)
    return samples


@pytest.mark.parametrize(("collate", "part"), [(packed_collate, "scans"), (pad_collate, "spectra")])
def test_scans_that_were_read_together_are_not_copied_where_nothing_is_padded(read, collate, part):
    scans = getattr(collate(read), part).numpy()
    assert np.shares_memory(scans, read[0].spectra)
    np.testing.assert_array_equal(scans.reshape(4, 5), np.concatenate([s.spectra for s in read]))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda samples: samples.pop(), id="one is gone"),
        pytest.param(lambda samples: samples.append(samples[0]), id="one is twice there"),
        pytest.param(lambda samples: samples.reverse(), id="another order"),
        pytest.param(
            lambda samples: samples.__setitem__(
                0, samples[0]._replace(spectra=samples[0].spectra + 1)
            ),
            id="one was changed",
        ),
    ],
)
@pytest.mark.parametrize("collate", [packed_collate, pad_collate])
def test_a_list_that_was_changed_since_is_believed(read, change, collate):
    changed = list(read)
    change(changed)
    batch = collate(changed)
    np.testing.assert_array_equal(
        batch.spectra[batch.mask], np.concatenate([sample.spectra for sample in changed])
    )


@pytest.mark.parametrize("collate", [packed_collate, pad_collate])
def test_a_part_of_what_was_read_together_is_a_batch_of_its_own(read, collate):
    batch = collate(read[::-1])
    assert batch.sample_id == ["a", "b"]
    np.testing.assert_array_equal(batch.spectra[0], read[1].spectra)


def test_a_sample_without_scans_is_refused_by_name():
    with pytest.raises(ValueError, match="'s1' has no scan"):
        packed_collate(samples(2, 0))
    with pytest.raises(ValueError, match="at least one sample"):
        packed_collate([])


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_pinned_it_arrives_as_it_was():
    packed = packed_collate(samples(1, 3, 2))
    pinned = packed.pin_memory()
    assert pinned.scans.is_pinned()
    there = pinned.to("cuda", non_blocking=True)
    torch.cuda.synchronize()
    assert_same(there.to("cpu"), packed.to("cpu"))


def test_a_batch_can_be_sent_between_processes():
    again = pickle.loads(pickle.dumps(packed_collate(samples(1, 2))))
    assert_same(again, pad_collate(samples(1, 2)))
    assert pickle.loads(pickle.dumps(partial(packed_collate, pad_rows_to=8)))
