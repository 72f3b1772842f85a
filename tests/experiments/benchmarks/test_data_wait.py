from __future__ import annotations

import numpy as np
import pytest
import torch

from experiments.benchmarks.data_wait import (
    WARMUP_PAIRS,
    InTurns,
    measure_epochs,
    open_dataset,
    open_loader,
    write_spectra,
)
from experiments.benchmarks.step_settings import StepSize, Variant, make_trainer
from experiments.config import SHARED_ROWS
from handlers.throughput import Throughput

CPU = torch.device("cpu")
TINY = StepSize(samples=4, scans=6, points=32, d_model=16, heads=2, patch=16, covariates=3)


@pytest.fixture
def dataset(tmp_path):
    rows = write_spectra(tmp_path, TINY, 20)
    return open_dataset(tmp_path, TINY, rows)


def test_samples_are_read_from_the_file(dataset):
    assert isinstance(dataset.spectra, np.memmap)
    assert dataset.spectra.shape == (dataset.scan_counts.sum(), 32)
    assert dataset.scan_counts.max() <= 6
    assert np.isfinite(np.asarray(dataset.spectra)).all()


def test_compiled_steps_are_given_batches_of_few_shapes(dataset):
    filled = [batch.to("cpu") for batch in open_loader(dataset, TINY, 0, fill=True)]
    assert {tuple(batch.spectra.shape) for batch in filled} == {(4, 6, 32)}
    assert {len(batch.scan_rows) % SHARED_ROWS for batch in filled} == {0}
    lean = list(open_loader(dataset, TINY, 0))
    assert all(len(batch.scan_rows) == int(batch.mask.sum()) for batch in lean)


def test_epochs_come_from_both_places_in_turn(dataset):
    loader = InTurns(open_loader(dataset, TINY, 0), CPU)
    resident, loaded = list(loader), list(loader)
    assert resident == loader.resident
    assert {type(batch).__name__ for batch in loaded} == {"PackedBatch"}
    assert [b is r for b, r in zip(loader, loader.resident, strict=True)] == [True] * 5
    assert len(loader) == 5


def test_the_first_epochs_of_each_place_do_not_count(dataset):
    loader = InTurns(open_loader(dataset, TINY, 0), CPU)
    trainer = make_trainer(TINY, Variant(packed=True), CPU, [Throughput()])
    resident, loaded = measure_epochs(trainer, loader, pairs=2)
    assert len(resident) == len(loaded) == 2
    assert trainer.state.epoch == 2 * (WARMUP_PAIRS["cpu"] + 2)
    assert all(epoch["time/step_ms"] > 0 for epoch in resident + loaded)
