from __future__ import annotations

import pickle
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.augmentations import AUGMENTATIONS, make_augmentations
from datasets.batches import Sample, packed_collate, pad_collate
from datasets.errors import CohortError, UsageError
from datasets.loading import spectra_dataset
from datasets.loading.spectra_dataset import SameTarget, SpectraDataset
from datasets.specs import Spec
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


def assert_same(ours: Sequence[Sample], theirs: Sequence[Sample]) -> None:
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


CROP: Spec = {"name": "crop", "params": {"low": 20, "high": 49}}


@pytest.mark.parametrize(
    "names",
    [
        [],
        ["tic", "sqrt", "standardize"],
        ["snv"],
        ["log1p"],
        ["savgol", "snip", "tic", CROP, "standardize"],
    ],
)
def test_samples_are_the_same_with_and_without_the_cache(spectra, names):
    transforms = make_transforms(names).fit(spectra, axis=np.arange(64.0))
    augmentations = make_augmentations(list(AUGMENTATIONS))
    both = [
        dataset(spectra, transforms=transforms, augmentations=augmentations, cache=cache)
        for cache in (True, False)
    ]
    keys = [(3, 2), (3, 0), (3, 3), (4, 1)]
    assert_same(both[0].__getitems__(keys), both[1].__getitems__(keys))


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize("names", [[], ["tic", CROP]])
@pytest.mark.parametrize("augmentations", [[], ["noise"]])
@pytest.mark.parametrize("on_disk", [True, False])
@pytest.mark.parametrize("collate", [pad_collate, packed_collate])
def test_a_batch_holds_what_its_samples_hold(
    spectra, cache, names, augmentations, on_disk, collate
):
    samples = dataset(
        spectra if on_disk else np.array(spectra),
        transforms=make_transforms(names).fit(spectra, axis=np.arange(64.0)),
        augmentations=make_augmentations(augmentations),
        cache=cache,
    )
    keys = [(2, 2), (2, 0), (2, 1), (2, 2, 1)]
    for chosen in (keys, keys[:1], [keys[0], keys[3]]):
        batch = collate(samples.__getitems__(chosen))
        alone = collate([samples[key] for key in chosen])
        for name in ("spectra", "mask", "tabular", "target", "scan_rows"):
            ours, theirs = getattr(batch, name), getattr(alone, name)
            np.testing.assert_array_equal(ours, theirs)
            assert ours.dtype == theirs.dtype
        assert batch.sample_id == alone.sample_id
        assert not batch.spectra[~batch.mask].any()


@pytest.mark.parametrize("cache", [True, False])
@pytest.mark.parametrize(("collate", "part"), [(pad_collate, "spectra"), (packed_collate, "scans")])
def test_scans_are_read_straight_into_the_batch(spectra, cache, collate, part):
    samples = dataset(spectra, cache=cache).__getitems__([2, 0, 1])
    batch = collate(samples)
    assert all(np.shares_memory(getattr(batch, part), sample.spectra) for sample in samples)


def test_a_batch_leaves_the_kept_scans_alone(spectra):
    samples = dataset(spectra)
    before = every_sample(samples)
    pad_collate(samples.__getitems__([2, 0, 1])).spectra.fill_(-1)
    assert_same(every_sample(samples), before)
    padded = pad_collate(samples.__getitems__([2, 1]))
    assert not padded.spectra[~padded.mask].any()


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
    size = 10 * 64 * 4
    calls = []

    def count(scans: np.ndarray) -> np.ndarray:
        calls.append(len(scans))
        return transforms(scans)

    for limit in ({"cache_limit": size - 1}, {}):
        monkeypatch.setattr(spectra_dataset, "CACHE_LIMIT_BYTES", size - 1 if not limit else size)
        samples = dataset(spectra, transforms=count, **limit)
        assert not calls
        assert_same(samples.__getitems__([0, 1, 2, 3]), kept)
        assert calls == [10]
        calls.clear()
    dataset(spectra, transforms=count, cache_limit=size)
    assert calls == [10]


def test_a_repeated_sample_is_augmented_differently(spectra):
    samples = dataset(spectra, augmentations=make_augmentations(["noise"]))
    first, second, third = samples.__getitems__([(2, 0), (2, 0, 1), (2, 0, 2)])
    assert not np.array_equal(first.spectra, second.spectra)
    assert not np.array_equal(second.spectra, third.spectra)
    assert_same([samples[(2, 0, 1)]], [second])


def test_augmentation_depends_on_seed_epoch_and_index_alone(spectra):
    augmentations = make_augmentations(list(AUGMENTATIONS))
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


@pytest.mark.parametrize("cache", [True, False])
def test_the_transforms_say_how_many_points_a_sample_has(spectra, cache):
    transforms = make_transforms(["tic", CROP]).fit(spectra, axis=np.arange(64.0))
    samples = dataset(spectra, transforms=transforms, cache=cache)
    assert samples.spec_len == 30
    whole = make_transforms(["tic"])(np.array(spectra))
    for sample, rows in zip(every_sample(samples), SCAN_ROWS, strict=True):
        np.testing.assert_array_equal(sample.spectra, whole[rows, 20:50])


@pytest.mark.parametrize("targets", [[0, 1, 1, 0], np.eye(2, dtype=int)[[0, 1, 1, 0]]])
def test_a_sample_is_mixed_with_one_of_the_same_class_or_labels(spectra, targets):
    samples = dataset(
        np.arange(12.0, dtype=np.float32)[:, None].repeat(64, axis=1),
        targets=np.array(targets),
        augmentations=make_augmentations([{"name": "mixup", "params": {"alpha": 5}}]),
    )
    for index, other in enumerate([3, 2, 1, 0]):
        for epoch in range(20):
            sample = samples[(epoch, index)]
            own, theirs = (np.array([2.0 * i, 2 * i + 1]) for i in (index, other))
            share = (sample.tabular - own) / (theirs - own)
            assert 0 < share[0] <= 0.5
            assert share[0] == pytest.approx(share[1], abs=1e-5)
            scans = sample.spectra[:, 0] - (1 - share[0]) * SCAN_ROWS[index]
            partners = set((scans / share[0]).round().astype(int))
            assert partners <= set(SCAN_ROWS[other])
            np.testing.assert_array_equal(sample.target, np.array(targets)[index])


def test_a_sample_that_is_alone_in_its_class_is_not_mixed(spectra):
    mixup = make_augmentations(["mixup"])
    targets = np.array([0, 1, 2, 0])
    samples = dataset(spectra, targets=targets, augmentations=mixup)
    plain = dataset(spectra, targets=targets)
    assert_same([samples[1], samples[2]], [plain[1], plain[2]])
    assert not np.array_equal(samples[0].spectra, plain[0].spectra)


def test_values_to_regress_are_not_mixed(spectra):
    mixup = make_augmentations(["noise", "mixup"])
    with pytest.raises(UsageError, match="mixup mixes samples of one class; values to regress"):
        dataset(spectra, targets=np.array([0.5, 1.5, 2.5, 3.5]), augmentations=mixup)


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


def drawn(others: SameTarget, index: int) -> set[int | None]:
    return {others.draw(index, np.random.default_rng(seed)) for seed in range(100)}


def test_only_other_samples_of_the_same_class_are_drawn():
    others = SameTarget(np.array([2, 0, 2, 1, 2, 0]))
    assert drawn(others, 0) == {2, 4}
    assert drawn(others, 2) == {0, 4}
    assert drawn(others, 5) == {1}
    assert drawn(others, 3) == {None}


def test_of_several_labels_all_are_the_same():
    labels = np.array([[1, 0], [1, 1], [1, 0], [0, 0], [1, 1]])
    others = SameTarget(labels)
    assert [drawn(others, index) for index in range(5)] == [{2}, {4}, {0}, {None}, {1}]


def test_all_are_drawn_alike():
    others = SameTarget(np.zeros(5, dtype=int))
    rng = np.random.default_rng(0)
    counts = np.bincount([others.draw(2, rng) or 0 for _ in range(4000)], minlength=5)
    assert counts[2] == 0
    np.testing.assert_allclose(counts[[0, 1, 3, 4]] / 4000, 0.25, atol=0.03)


def test_values_to_regress_have_no_class():
    with pytest.raises(UsageError, match="mixup mixes samples of one class; values to regress"):
        SameTarget(np.array([0.5, 1.5]))
