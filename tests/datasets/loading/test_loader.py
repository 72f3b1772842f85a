from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch

from datasets.augmentations import AUGMENTATIONS, make_augmentations
from datasets.batches import Batch, PackedBatch, packed_collate
from datasets.errors import UsageError
from datasets.loading.loader import make_loader
from datasets.loading.samplers import BucketBatchSampler
from datasets.loading.spectra_dataset import SpectraDataset
from datasets.transforms import make_transforms

SAMPLES, POINTS = 23, 40


def dataset(augmentations: object = tuple(AUGMENTATIONS)) -> SpectraDataset:
    rng = np.random.default_rng(0)
    scans = rng.integers(1, 6, SAMPLES)
    spectra = rng.gamma(2.0, 100.0, (int(scans.sum()), POINTS)).astype(np.float32)
    built = [a if callable(a) else make_augmentations([a])[0] for a in augmentations]  # type: ignore[attr-defined]
    return SpectraDataset(
        spectra,
        np.split(np.arange(len(spectra)), np.cumsum(scans)[:-1]),
        rng.random((SAMPLES, 3)),
        rng.integers(0, 2, SAMPLES),
        [f"s{i}" for i in range(SAMPLES)],
        transforms=make_transforms(["tic", "sqrt", "standardize"]).fit(spectra),
        augmentations=built,
        seed=3,
    )


def loader(num_workers: int = 0, **changes: object):
    settings: dict[str, Any] = {"batch_size": 4, "shuffle": True, "seed": 1, **changes}
    return make_loader(dataset(), num_workers=num_workers, **settings)


def assert_same(ours: list[Batch], theirs: list[Batch]) -> None:
    assert [batch.sample_id for batch in ours] == [batch.sample_id for batch in theirs]
    for one, two in zip(ours, theirs, strict=True):
        for name in ("spectra", "mask", "tabular", "target"):
            assert torch.equal(getattr(one, name), getattr(two, name))


@pytest.mark.slow
def test_workers_change_nothing_in_any_or_resumed_epoch():
    alone, helped = loader(0), loader(2)
    epochs = []
    for epoch in (1, 2):
        for each in (alone, helped):
            each.batch_sampler.set_epoch(epoch)
        epochs.append(list(alone))
        assert_same(list(helped), epochs[-1])
    for each in (alone, helped):
        for position in (1, 5):
            each.batch_sampler.resume_at(1, position)
            assert len(each) == 6
            assert_same(list(each), epochs[0][position:])
        each.batch_sampler.set_epoch(2)
        assert_same(list(each), epochs[1])


@pytest.mark.parametrize("workers", [0, 2])
def test_a_fresh_loader_resumes_with_the_remaining_batches(workers):
    whole = loader()
    whole.batch_sampler.set_epoch(7)
    resumed = loader(num_workers=workers)
    resumed.batch_sampler.resume_at(7, 4)
    assert_same(list(resumed), list(whole)[4:])
    whole.batch_sampler.set_epoch(8)
    resumed.batch_sampler.set_epoch(8)
    assert_same(list(resumed), list(whole))


def test_epochs_differ_in_order_and_in_augmentation():
    batches = loader()
    orders, scans = [], []
    for epoch in (1, 2):
        batches.batch_sampler.set_epoch(epoch)
        by_name = {
            name: spectra[mask]
            for batch in batches
            for name, spectra, mask in zip(batch.sample_id, batch.spectra, batch.mask, strict=True)
        }
        orders.append(list(by_name))
        scans.append(by_name)
    assert orders[0] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == sorted(dataset().sample_ids)
    assert not any(torch.equal(scans[0][name], scans[1][name]) for name in orders[0])


def bucket_loader(num_workers: int = 0, **changes: Any):
    data = dataset()
    settings = {"max_scans": 12, "strata": data.targets, **changes}
    sampler = BucketBatchSampler(data.scan_counts, 4, shuffle=True, seed=1, **settings)
    return make_loader(data, sampler=sampler, num_workers=num_workers, collate=packed_collate)


def test_workers_change_nothing_of_packed_buckets_either():
    alone, helped = bucket_loader(), bucket_loader(2)
    for epoch, position in ((1, 0), (2, 3)):
        for each in (alone, helped):
            each.batch_sampler.resume_at(epoch, position)
        batches = list(alone)
        assert len(batches) == len(alone) - position
        assert_same(list(helped), batches)
        assert all(isinstance(batch, PackedBatch) for batch in batches)


def test_processes_share_what_a_loader_would_have_yielded_alone():
    shares = [bucket_loader(strata=None, rank=rank, world_size=2) for rank in (0, 1)]
    assert len(shares[0]) == len(shares[1])
    names = [name for each in shares for batch in each for name in batch.sample_id]
    assert sorted(names) == sorted(dataset().sample_ids)


def test_without_shuffling_the_cohorts_order_stays():
    plain = loader(shuffle=False)
    plain.batch_sampler.set_epoch(5)
    assert [name for batch in plain for name in batch.sample_id] == dataset().sample_ids


@pytest.mark.parametrize("num_workers", [0, 1])
def test_a_pass_draws_from_no_global_random_stream(num_workers):
    batches = loader(num_workers)
    before = torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate()  # type: ignore[index]
    for epoch in (1, 2):
        batches.batch_sampler.set_epoch(epoch)
        assert len(list(batches)) == 6
    assert torch.equal(torch.get_rng_state(), before[0])
    assert np.random.get_state()[1].tolist() == before[1]  # type: ignore[index]
    assert random.getstate() == before[2]


def report_process(scans: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Answer with the process that augments and its number of torch threads."""
    return np.full((1, POINTS), [torch.get_num_threads(), os.getpid()] * (POINTS // 2), np.float32)


def test_workers_stay_between_epochs_and_compute_on_one_thread():
    batches = make_loader(dataset([report_process]), batch_size=4, num_workers=2)
    answers = [torch.cat([b.spectra[:, 0, :2] for b in batches]).unique(dim=0) for _ in range(2)]
    assert torch.equal(answers[0], answers[1])
    assert answers[0][:, 0].tolist() == [1.0, 1.0]
    assert float(os.getpid()) not in answers[0][:, 1].tolist()


@pytest.mark.skipif(not hasattr(signal, "sigwaitinfo"), reason="a signal's sender is not known")
def test_a_signal_to_all_processes_does_not_end_workers():
    batches = loader(2)
    expected = list(batches)
    running = iter(batches)
    got = [next(running)]
    workers = running._workers  # type: ignore[attr-defined]
    assert len(workers) == 2
    for name in ("-INT", "-TERM"):
        # From a process of its own, as a terminal or a scheduler sends it.
        subprocess.run(["kill", name, *[str(worker.pid) for worker in workers]], check=True)
    got += list(running)
    assert_same(got, expected)
    assert all(worker.is_alive() for worker in workers)


UNFINISHED = """
import numpy as np
from datasets.loading.loader import make_loader
from datasets.loading.spectra_dataset import SpectraDataset

rows = list(np.arange(8)[:, None])
dataset = SpectraDataset(
    np.ones((8, 4), np.float32), rows, np.ones((8, 1)), np.ones(8, int), list("abcdefgh")
)
batches = make_loader(dataset, batch_size=2, num_workers=2)
running = iter(batches)
next(running)
print(*[worker.pid for worker in running._workers])
"""


@pytest.mark.slow
def test_a_program_that_ends_takes_its_workers_with_it():
    done = subprocess.run(
        [sys.executable, "-c", UNFINISHED], capture_output=True, text=True, timeout=60, check=True
    )
    workers = [int(pid) for pid in done.stdout.split()]
    assert len(workers) == 2
    for pid in workers:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_pinning_is_left_out_where_there_is_no_gpu():
    assert loader(pin_memory=True).pin_memory == torch.cuda.is_available()
    assert not loader().pin_memory


def test_no_samples_are_refused():
    with pytest.raises(UsageError, match="no sample"):
        make_loader([], batch_size=4)  # type: ignore[arg-type]


@pytest.mark.parametrize("num_workers", [0, 1])
@pytest.mark.parametrize("augmentations", [(), ("noise",), ("mixup",)])
def test_each_sample_keeps_its_offset(num_workers, augmentations):
    data = dataset(augmentations)
    loader = make_loader(data, batch_size=4, shuffle=True, seed=1, num_workers=num_workers)
    # Set after the loader is made, as what is fitted to the training set does.
    numbers = data.targets if augmentations == ("mixup",) else np.arange(SAMPLES)
    data.offset = np.stack([numbers, -numbers], axis=1).astype(np.float32)
    seen = 0
    for batch in loader:
        rows = [int(name[1:]) for name in batch.sample_id]
        assert batch.offset.tolist() == data.offset[rows].tolist()
        seen += len(rows)
    assert seen == SAMPLES
