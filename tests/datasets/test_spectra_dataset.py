from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets import spectra_dataset
from datasets.augmentations import make_augmentations
from datasets.batch import Sample
from datasets.errors import CohortError
from datasets.spectra_dataset import SpectraDataset
from datasets.transforms import make_transforms

SCAN_ROWS = [np.array([7, 2]), np.array([9]), np.array([0, 4, 5, 11]), np.array([3, 1, 6])]
SAMPLE_IDS = ["a", "b", "c", "d"]


@pytest.fixture
def spectra(tmp_path: Path) -> np.ndarray:
    values = np.random.default_rng(0).gamma(2.0, 100.0, (12, 64)).astype(np.float32)
    np.save(tmp_path / "spectra.npy", values)
    return np.load(tmp_path / "spectra.npy", mmap_mode="r")


def dataset(spectra: np.ndarray, **changes: object) -> SpectraDataset:
    arguments: dict[str, Any] = {
        "scan_rows": SCAN_ROWS,
        "tabular": np.arange(8.0).reshape(4, 2),
        "targets": np.array([0, 1, 1, 0]),
        "sample_ids": SAMPLE_IDS,
        **changes,
    }
    return SpectraDataset(spectra, **arguments)


def every_sample(samples: SpectraDataset) -> list[Sample]:
    return [samples[index] for index in range(len(samples))]


def assert_same(ours: list[Sample], theirs: list[Sample]) -> None:
    assert [s.sample_id for s in ours] == [s.sample_id for s in theirs]
    for one, two in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one.spectra, two.spectra)
        np.testing.assert_array_equal(one.tabular, two.tabular)
        np.testing.assert_array_equal(one.target, two.target)


@pytest.mark.parametrize("cache", [True, False])
def test_a_sample_holds_its_own_scans_covariates_and_target(spectra, cache):
    samples = dataset(spectra, cache=cache)
    assert len(samples) == 4
    assert (samples.spec_len, samples.tab_dim) == (64, 2)
    for index, sample in enumerate(every_sample(samples)):
        np.testing.assert_array_equal(sample.spectra, np.asarray(spectra)[SCAN_ROWS[index]])
        assert sample.tabular.tolist() == [2 * index, 2 * index + 1]
        assert sample.tabular.dtype == np.float32
        assert sample.target == [0, 1, 1, 0][index]
        assert sample.sample_id == SAMPLE_IDS[index]


@pytest.mark.parametrize("names", [[], ["tic", "sqrt", "standardize"], ["snv"], ["log1p"]])
def test_samples_are_the_same_with_and_without_the_cache(spectra, names):
    transforms = make_transforms(names).fit(spectra)
    augmentations = make_augmentations(["scan_dropout", "noise", "axis_shift"])
    both = [
        dataset(spectra, transforms=transforms, augmentations=augmentations, cache=cache)
        for cache in (True, False)
    ]
    keys = [(3, 2), (3, 0), (3, 3), (4, 1)]
    assert_same(both[0].__getitems__(keys), both[1].__getitems__(keys))


def test_transforms_run_once_where_the_result_is_kept(spectra):
    calls = []

    def count(scans: np.ndarray) -> np.ndarray:
        calls.append(len(scans))
        return scans

    samples = dataset(spectra, transforms=count)
    for _ in range(3):
        samples.__getitems__([0, 1, 2, 3])
    assert sum(calls) == 10  # the rows in use: 8 and 10 belong to no sample


def test_what_is_larger_than_the_limit_is_transformed_on_access(spectra, monkeypatch):
    transforms = make_transforms(["tic"])
    kept = dataset(spectra, transforms=transforms).__getitems__([0, 1, 2, 3])
    monkeypatch.setattr(spectra_dataset, "CACHE_LIMIT_BYTES", 10 * 64 * 4 - 1)
    calls = []
    samples = dataset(spectra, transforms=lambda scans: calls.append(1) or transforms(scans))  # type: ignore[func-returns-value]
    assert not calls
    assert_same(samples.__getitems__([0, 1, 2, 3]), kept)
    assert len(calls) == 1


def test_augmentation_depends_on_seed_epoch_and_index_alone(spectra):
    augmentations = make_augmentations(["noise", "intensity", "scan_dropout"])
    samples = dataset(spectra, augmentations=augmentations, seed=5)
    batch = samples.__getitems__([(2, 3), (2, 0), (2, 2)])
    assert_same(
        batch[::-1],
        dataset(spectra, augmentations=augmentations, seed=5).__getitems__(
            [(2, 2), (2, 0), (2, 3)]
        ),
    )
    assert_same([batch[1]], [samples[(2, 0)]])
    other_seed = dataset(spectra, augmentations=augmentations, seed=6)
    for other in (samples[(3, 0)], other_seed[(2, 0)]):
        assert not np.array_equal(other.spectra, batch[1].spectra)


def test_augmentation_leaves_the_kept_scans_alone(spectra):
    def overwrite(scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        scans += 1
        return scans

    samples = dataset(spectra, augmentations=[overwrite])
    assert_same([samples[(1, 0)]], [samples[(1, 0)]])


def test_targets_to_regress_become_float_vectors(spectra):
    one = dataset(spectra, targets=np.array([0.5, 1.5, 2.5, 3.5]))[1]
    assert one.target.dtype == np.float32  # type: ignore[union-attr]
    assert one.target.tolist() == [1.5]  # type: ignore[union-attr]
    two = dataset(spectra, targets=np.arange(8.0).reshape(4, 2))[1]
    assert two.target.tolist() == [2.0, 3.0]  # type: ignore[union-attr]
    labels = dataset(spectra, targets=np.eye(4, 3, dtype=np.int64))[1]
    assert labels.target.dtype == np.float32  # type: ignore[union-attr]
    assert labels.target.tolist() == [0.0, 1.0, 0.0]  # type: ignore[union-attr]


def test_indices_count_from_the_end_and_stop_at_it(spectra):
    samples = dataset(spectra)
    assert_same([samples[-1]], [samples[3]])
    with pytest.raises(IndexError):
        samples[4]
    with pytest.raises(IndexError):
        samples[(1, 4)]


def test_a_sample_without_scans_is_named(spectra):
    with pytest.raises(CohortError, match="sample 'b' has no scan"):
        dataset(spectra, scan_rows=[*SCAN_ROWS[:1], np.array([]), *SCAN_ROWS[2:]])


def test_parts_that_do_not_belong_together_are_refused(spectra):
    with pytest.raises(ValueError, match="differ in number"):
        dataset(spectra, targets=np.array([0, 1]))
    with pytest.raises(ValueError, match="there are 12 scans"):
        dataset(spectra, scan_rows=[np.array([12]), *SCAN_ROWS[1:]])
    with pytest.raises(ValueError, match="there are 12 scans"):
        dataset(spectra, scan_rows=[np.array([-1]), *SCAN_ROWS[1:]])


def test_an_empty_dataset_can_be_made(spectra):
    empty = dataset(
        spectra, scan_rows=[], tabular=np.zeros((0, 2)), targets=np.zeros(0), sample_ids=[]
    )
    assert len(empty) == 0
    assert empty.__getitems__([]) == []


@pytest.mark.parametrize("cache", [True, False])
def test_sent_to_another_process_it_maps_the_file_again(tmp_path, cache):
    np.save(tmp_path / "big.npy", np.ones((1000, 64), dtype=np.float32))
    big = np.load(tmp_path / "big.npy", mmap_mode="r")
    samples = dataset(big, cache=cache)
    sent = pickle.dumps(samples)
    assert len(sent) < big.nbytes / 10
    again = pickle.loads(sent)
    assert isinstance(again.spectra, np.memmap)
    assert_same(every_sample(again), every_sample(samples))


def test_a_view_of_a_map_is_sent_with_the_rows_it_shows(spectra):
    rows = [np.array([0]), np.array([1]), np.array([2]), np.array([3])]
    samples = dataset(spectra[8:], scan_rows=rows, cache=False)
    again = pickle.loads(pickle.dumps(samples))
    assert_same(every_sample(again), every_sample(samples))
