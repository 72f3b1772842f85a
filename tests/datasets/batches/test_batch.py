from __future__ import annotations

import pickle
from functools import partial

import numpy as np
import pytest
import torch

from datasets.batches import Batch, LazyBatch, PackedBatch, Sample, packed_collate, pad_collate
from datasets.loading import SpectraDataset

PARTS = ("spectra", "mask", "tabular", "target", "scan_rows")


def sample(scans: int, target: object = 0, name: str = "s", covariates: int = 3) -> Sample:
    spectra = np.full((scans, 5), scans, dtype=np.float32)
    return Sample(spectra, np.arange(covariates, dtype=np.float32), target, name)  # type: ignore[arg-type]


def test_scans_are_padded_with_zeros_behind_the_real_ones():
    batch = pad_collate([sample(1), sample(3), sample(2)])
    assert batch.spectra.shape == (3, 3, 5)
    assert batch.spectra.dtype == torch.float32
    assert batch.mask.tolist() == [[True, False, False], [True, True, True], [True, True, False]]
    assert batch.spectra[..., 0].tolist() == [[1, 0, 0], [3, 3, 3], [2, 2, 0]]


def test_the_rows_of_the_real_scans_are_the_mask_as_an_index():
    batch = pad_collate([sample(1), sample(3), sample(2)])
    assert batch.scan_rows is not None
    assert batch.scan_rows.tolist() == [0, 3, 4, 5, 6, 7]
    assert torch.equal(batch.scan_rows, batch.mask.flatten().nonzero().squeeze(1))


@pytest.mark.parametrize(("multiple", "length"), [(1, 6), (4, 8), (6, 6), (16, 16)])
def test_rows_can_be_filled_up_to_a_multiple(multiple, length):
    batch = pad_collate([sample(1), sample(3), sample(2)], pad_rows_to=multiple)
    assert batch.scan_rows is not None
    rows = batch.scan_rows.tolist()
    assert rows == [0, 3, 4, 5, 6, 7] + [9] * (length - 6)


@pytest.mark.parametrize(("multiple", "most"), [(1, 3), (2, 4), (3, 3), (8, 8)])
def test_samples_can_be_padded_up_to_a_multiple_of_scans(multiple, most):
    samples = [sample(1), sample(3), sample(2)]
    batch, plain = pad_collate(samples, pad_scans_to=multiple), pad_collate(samples)
    assert batch.spectra.shape == (3, most, 5)
    assert batch.mask.shape == (3, most)
    assert torch.equal(batch.mask[:, :3], plain.mask)
    assert not batch.mask[:, 3:].any()
    assert torch.equal(batch.spectra[:, :3], plain.spectra)
    assert not batch.spectra[:, 3:].any()


def test_rows_are_counted_among_all_that_are_padded():
    samples = [sample(1), sample(3), sample(2)]
    batch = pad_collate(samples, pad_rows_to=4, pad_scans_to=4)
    assert batch.scan_rows is not None
    assert batch.scan_rows.tolist() == [0, 4, 5, 6, 8, 9, 12, 12]


def test_class_targets_are_long_and_values_to_regress_are_float():
    assert pad_collate([sample(1, np.int64(1)), sample(1, 0)]).target.tolist() == [1, 0]
    assert pad_collate([sample(1, 2)]).target.dtype == torch.long
    values = pad_collate([sample(1, np.array([0.5, 2.0])), sample(1, np.array([1.0, 3.0]))]).target
    assert values.dtype == torch.float32
    assert values.tolist() == [[0.5, 2.0], [1.0, 3.0]]


def test_a_batch_counts_its_samples_and_keeps_their_names():
    batch = pad_collate([sample(2, name="b"), sample(1, name="a")])
    assert len(batch) == 2
    assert batch.sample_id == ["b", "a"]


def test_samples_without_covariates_make_a_batch_of_width_zero():
    batch = pad_collate([sample(1, covariates=0), sample(2, covariates=0)])
    assert batch.tabular.shape == (2, 0)


def test_a_sample_without_scans_is_refused_by_name():
    with pytest.raises(ValueError, match="'empty' has no scan"):
        pad_collate([sample(1), sample(0, name="empty")])
    with pytest.raises(ValueError, match="at least one sample"):
        pad_collate([])


def test_every_tensor_moves_to_the_device():
    batch = pad_collate([sample(1), sample(2)])
    moved = batch.to("meta", non_blocking=True)
    for name in ("spectra", "mask", "tabular", "target", "scan_rows"):
        assert getattr(moved, name).device.type == "meta"
        assert getattr(moved, name).shape == getattr(batch, name).shape
        assert getattr(batch, name).device.type == "cpu"
    assert moved.sample_id == batch.sample_id


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinned memory needs a GPU")
def test_every_tensor_is_pinned():
    pinned = pad_collate([sample(1), sample(2)]).pin_memory()
    assert all(
        getattr(pinned, name).is_pinned()
        for name in ("spectra", "mask", "tabular", "target", "scan_rows")
    )


def test_a_batch_can_be_sent_between_processes():
    batch = pad_collate([sample(1), sample(2)])
    again = pickle.loads(pickle.dumps(batch))
    assert isinstance(again, Batch)
    assert torch.equal(again.spectra, batch.spectra)
    assert again.sample_id == batch.sample_id


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


def test_a_packed_batch_moves_to_the_device():
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
def test_scans_read_together_are_not_copied_without_padding(read, collate, part):
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


def test_packing_refuses_a_sample_without_scans_by_name():
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


def test_a_packed_batch_can_be_sent_between_processes():
    again = pickle.loads(pickle.dumps(packed_collate(samples(1, 2))))
    assert_same(again, pad_collate(samples(1, 2)))
    assert pickle.loads(pickle.dumps(partial(packed_collate, pad_rows_to=8)))


def offsets(*values: float) -> list[Sample]:
    return [
        each._replace(offset=np.array([value, -value], np.float32))
        for each, value in zip(samples(*range(1, len(values) + 1)), values, strict=True)
    ]


@pytest.mark.parametrize("collate", [pad_collate, packed_collate])
def test_offsets_go_with_their_samples(collate):
    expected = [[0.5, -0.5], [2, -2]]
    batch = collate(offsets(0.5, 2))
    for found in (batch, batch.to("meta").to("meta"), pickle.loads(pickle.dumps(batch))):
        assert found.offset.dtype == torch.float32
        assert found.offset.shape == (2, 2)
    assert batch.offset.tolist() == batch.to("cpu").offset.tolist() == expected
    assert batch.to("meta").offset.is_meta
    assert collate(samples(1, 2)).to("cpu").offset is None


@pytest.mark.skipif(not torch.cuda.is_available(), reason="pinning needs a CUDA device")
@pytest.mark.parametrize("collate", [pad_collate, packed_collate])
def test_offsets_are_pinned_and_copied_to_a_gpu(collate):
    pinned = collate(offsets(0.5, 2)).pin_memory()
    assert pinned.offset.is_pinned()
    assert pinned.to("cuda").offset.tolist() == [[0.5, -0.5], [2, -2]]
