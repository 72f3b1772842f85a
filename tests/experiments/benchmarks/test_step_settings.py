from __future__ import annotations

import argparse

import numpy as np
import pytest
import torch

from datasets.errors import UsageError
from experiments.benchmarks.step_settings import (
    SIZES,
    Repeated,
    StepSize,
    Variant,
    add_size_options,
    draw_batches,
    draw_counts,
    make_trainer,
    parse_variant,
    read_size,
    unfilled,
)
from experiments.config import SHARED_ROWS

CPU = torch.device("cpu")
TINY = StepSize(samples=8, scans=6, points=64, d_model=16, heads=2, patch=16, covariates=3)


def read(*arguments):
    parser = argparse.ArgumentParser()
    add_size_options(parser)
    return read_size(parser.parse_args(arguments), CPU)


@pytest.mark.parametrize(
    "name",
    [
        "fp32",
        "tf32-packed",
        "bf16-packed-graphs",
        "bf16-packed-regional",
        "fp16-compiled-checkpointed",
    ],
)
def test_a_variant_is_its_name(name):
    assert parse_variant(name).name == name


@pytest.mark.parametrize(
    ("name", "line"),
    [("bf17-packed", "did you mean 'bf16'"), ("bf16-pack", "did you mean 'packed'")],
)
def test_an_unknown_variant_is_refused_with_the_nearest(name, line):
    with pytest.raises(UsageError, match=line):
        parse_variant(name)


def test_a_size_that_is_not_given_is_the_devices_own():
    assert read() == SIZES["cpu"]
    assert read("--scans", "3", "--valid", "0.5") == StepSize(scans=3)


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["--valid", "1.2"], "--valid must be a share"),
        (["--valid", "0.05"], "--valid must be a share"),
        (["--points", "0"], "--points must be at least 1"),
        (["--heads", "3"], "3 does not divide"),
    ],
)
def test_a_wrong_size_is_refused(arguments, line):
    with pytest.raises(UsageError, match=line):
        read(*arguments)


@pytest.mark.parametrize("valid", [0.125, 0.25, 0.54, 0.9, 1.0])
def test_the_asked_share_of_the_scans_is_real(valid):
    counts = draw_counts(StepSize(scans=16, valid=valid), 20_000, np.random.default_rng(0))
    assert 1 <= counts.min() <= counts.max() <= 16
    assert counts.mean() / 16 == pytest.approx(valid, abs=0.01)


def test_batches_differ_but_share_their_shapes():
    batches = draw_batches(TINY, 3, CPU)
    assert {tuple(batch.spectra.shape) for batch in batches} == {(8, 6, 64)}
    assert len({int(batch.mask.sum()) for batch in batches}) > 1
    rows = [batch.scan_rows for batch in batches]
    assert all(each is not None and len(each) % SHARED_ROWS == 0 for each in rows)


def test_what_is_not_compiled_computes_no_rows_that_only_fill_up():
    (batch,) = draw_batches(TINY, 1, CPU)
    rows = batch.mask.flatten().nonzero().squeeze(1)
    left = unfilled(batch).scan_rows
    assert left is not None
    assert torch.equal(left, rows)


def test_all_eager_variants_take_the_same_step():
    batches = draw_batches(TINY, 2, CPU)
    weights = []
    for name in ("fp32", "fp32-packed"):
        trainer = make_trainer(TINY, parse_variant(name), CPU)
        # Dropout is drawn for other rows where padded ones are computed, too.
        for module in trainer.model.modules():
            if isinstance(getattr(module, "dropout", None), float):
                vars(module)["dropout"] = 0.0
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        trainer.fit(Repeated(batches, 2), max_epochs=1)
        weights.append(torch.cat([p.detach().flatten() for p in trainer.model.parameters()]))
    torch.testing.assert_close(weights[0], weights[1], rtol=0, atol=1e-5)


def test_a_trainer_has_what_a_run_usually_has():
    trainer = make_trainer(TINY, Variant("bf16", packed=True), CPU)
    assert {"ema", "lr_schedule", "mixed_precision", "epoch_metrics"} <= trainer.stateful.keys()
    assert trainer.optimizer.defaults["fused"]
    trainer.fit(Repeated(draw_batches(TINY, 1, CPU), 2), max_epochs=1)
    assert hasattr(trainer.state, "gradient_norm")
    assert {"train/loss", "train/auroc", "lr"} <= trainer.state.metrics.keys()
