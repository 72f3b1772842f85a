from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch

from datasets.batches.batch import Batch, pad_collate
from datasets.batches.samples import Sample


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


def test_a_batch_counts_its_samples_and_keeps_their_names_in_order():
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
