from __future__ import annotations

import multiprocessing
from functools import partial

import numpy as np
import pytest
import torch
from ignite.engine import Events

from datasets.batches import Batch, PackedBatch, packed_collate, pad_collate
from datasets.errors import UsageError
from datasets.loading import BucketBatchSampler, EpochBatchSampler
from engine.checkpointing import load_checkpoint
from experiments.builders.data import build_data, build_loaders
from experiments.runs import Experiment

BUCKETS = {"data.batching": {"kind": "bucket"}}


def names(loader):
    return [name for batch in loader for name in batch.sample_id]


def test_shuffled_batches_are_the_default(make_config):
    data = build_data(make_config())
    assert {type(loader.batch_sampler) for loader in data.loaders.values()} == {EpochBatchSampler}
    assert isinstance(next(iter(data.loaders["train"])), Batch)
    assert names(data.loaders["test"]) == data.datasets["test"].sample_ids


@pytest.mark.parametrize("side", ["train", "val", "test"])
def test_buckets_hold_every_sample_once_and_pad_less(make_config, side):
    data = build_data(make_config(**BUCKETS))
    loader = data.loaders[side]
    assert isinstance(loader.batch_sampler, BucketBatchSampler)
    assert sorted(names(loader)) == sorted(data.datasets[side].sample_ids)
    plain = build_data(make_config(**{"data.batching": {}})).loaders[side]
    padded, less = (sum((~batch.mask).sum() for batch in batches) for batches in (plain, loader))
    assert less <= padded


def test_evaluation_has_twice_the_budget_of_training(make_config):
    batching = {"kind": "bucket", "token_budget": 5 * 128}
    data = build_data(make_config(**{"data.batching": batching}))
    for side, scans in (("train", 5), ("val", 10), ("test", 10)):
        sizes = [batch.mask.numel() for batch in data.loaders[side]]
        assert max(sizes) <= scans
        assert max(sizes) > scans - 3


def test_a_budget_below_a_single_sample_is_refused_in_full(make_config):
    batching = {"kind": "bucket", "token_budget": 300}
    with pytest.raises(UsageError) as refused:
        build_data(make_config(**{"data.batching": batching}))
    assert str(refused.value) == (
        "data.batching.token_budget: a sample has 3 scans of 128 points; at least 384 was "
        "expected, not 300"
    )


@pytest.mark.parametrize("kind", ["shuffle", "bucket"])
@pytest.mark.parametrize("balance", ["class", "group"])
def test_classes_or_groups_are_trained_on_equally_often(make_config, kind, balance):
    data = build_data(make_config(**{"data.batching": {"kind": kind, "balance": balance}}))
    train = data.split == "train"
    of = data.cohort.targets if balance == "class" else data.cohort.groups
    kind_of = dict(zip(np.array(data.cohort.sample_ids)[train], of[train], strict=True))
    drawn = [kind_of[name] for name in names(data.loaders["train"])]
    counts = np.unique(drawn, return_counts=True)[1]
    assert len(drawn) == train.sum()
    assert len(counts) == len(set(kind_of.values()))
    assert np.ptp(counts) <= 1
    for side in ("val", "test"):
        assert sorted(names(data.loaders[side])) == sorted(data.datasets[side].sample_ids)


@pytest.mark.parametrize("kind", ["shuffle", "bucket"])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_every_split_evenly(make_config, kind, world_size):
    config = make_config(**{"data.batching": {"kind": kind}})
    data = build_data(config)
    train = data.split == "train"
    parts = (data.cohort.targets[train], data.cohort.groups[train])
    shares = [
        build_loaders(config, data.datasets, *parts, rank, world_size) for rank in range(world_size)
    ]
    for side, dataset in data.datasets.items():
        held = sorted(name for own in shares for name in names(own[side]))
        assert held == sorted(dataset.sample_ids)
        assert len({len(own[side]) for own in shares}) == 1


def test_packed_batches_hold_real_scans_only(make_config):
    batching = {"collate": "packed", "pad_rows_to": 8}
    data = build_data(make_config(**{"data.batching": batching}))
    batch = next(iter(data.loaders["train"]))
    assert isinstance(batch, PackedBatch)
    assert len(batch.scans) == batch.mask.sum()
    assert len(batch.scan_rows) % 8 == 0


@pytest.mark.parametrize("collate", ["padded", "packed"])
@pytest.mark.parametrize("kind", ["shuffle", "bucket"])
def test_samples_are_padded_to_a_multiple_of_scans(make_config, collate, kind):
    batching = {"kind": kind, "collate": collate, "pad_scans_to": 2}
    data = build_data(make_config(**{"data.batching": batching}))
    for side, loader in data.loaders.items():
        batches = list(loader)
        assert {batch.to("cpu").spectra.shape[1] for batch in batches} <= {2, 4}
        counts = dict(
            zip(data.datasets[side].sample_ids, data.datasets[side].scan_counts, strict=True)
        )
        for batch in batches:
            assert batch.mask.sum(1).tolist() == [counts[name] for name in batch.sample_id]


def test_a_budget_counts_what_is_padded_to_a_multiple_too(make_config):
    batching = {"kind": "bucket", "token_budget": 9 * 128, "pad_scans_to": 4}
    data = build_data(make_config(**{"data.batching": batching}))
    for side, scans in (("train", 9), ("val", 18), ("test", 18)):
        assert max(batch.mask.numel() for batch in data.loaders[side]) <= scans
    with pytest.raises(UsageError, match="a sample is padded to 4 scans of 128 points; at least"):
        build_data(make_config(**{"data.batching": {**batching, "token_budget": 200}}))


@pytest.mark.parametrize(
    ("device", "gpu", "collate"),
    [("auto", False, pad_collate), ("cpu", True, pad_collate), ("auto", True, packed_collate)],
)
def test_batches_are_packed_where_they_are_copied_to_a_gpu(
    make_config, monkeypatch, device, gpu, collate
):
    config = make_config(**{"trainer.device": device})
    data = build_data(config)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpu)
    loaders = build_loaders(config, data.datasets, np.zeros(0), np.zeros(0))
    assert loaders["train"].collate_fn is collate
    assert loaders["train"].pin_memory == (gpu and device == "auto")


def weights(experiment):
    return torch.cat([p.detach().flatten() for p in experiment.trainer.model.parameters()])


def trained(make_config, **changes):
    off = {"report.enabled": False, "audit.enabled": False}
    experiment = Experiment(make_config(**off, **changes))
    experiment.setup()
    experiment.train()
    experiment.test()
    return experiment


@pytest.mark.slow
def test_a_run_on_packed_batches_is_the_same_run(make_config):
    padded, packed = (
        trained(make_config, exp_name=collate, **{"data.batching.collate": collate})
        for collate in ("padded", "packed")
    )
    assert torch.equal(weights(padded), weights(packed))
    np.testing.assert_equal(padded.results, packed.results)  # NaN included


@pytest.mark.slow
@pytest.mark.parametrize(("workers", "cut"), [(0, 5), (1, 2)])
def test_a_run_on_buckets_that_was_cut_ends_as_one_that_was_not(make_config, workers, cut):
    changes = {
        "data.batching": {"kind": "bucket", "token_budget": 16 * 128, "balance": "class"},
        "data.augmentations": ["noise", "scan_dropout", "mixup"],
        "data.num_workers": workers,
        "checkpoint.every_steps": 1,
        "report.enabled": False,
        "audit.enabled": False,
    }
    earlier = set(multiprocessing.active_children())
    straight = Experiment(make_config(exp_name="straight", **changes))
    straight.setup()
    straight.train()
    stopped = Experiment(make_config(exp_name="cut", **changes))
    stopped.setup()
    assert cut % len(stopped.data.loaders["train"])
    stopped.trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=cut), lambda: stopped.trainer.terminate()
    )
    stopped.train()
    resumed = Experiment(make_config(exp_name="cut", **changes), run_dir=stopped.run_dir)
    resumed.setup()
    assert resumed.trainer.state.iteration == cut
    resumed.train()
    assert torch.equal(weights(resumed), weights(straight))
    assert bool(set(multiprocessing.active_children()) - earlier) is (workers > 0)
    for experiment in (straight, stopped, resumed):
        experiment.close()
    assert set(multiprocessing.active_children()) <= earlier, "a closed run has workers"
    last = [
        load_checkpoint(run.run_dir / "checkpoints" / "last.pt")["states"]["trainer"]
        for run in (straight, resumed)
    ]
    assert last[0]["metrics"] == last[1]["metrics"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"data.batching": {"token_budget": 100}}, "only batches of kind bucket have a budget"),
        (
            {"data.task": "regression", "data.label": "age", "data.batching": {"balance": "class"}},
            "a regression task has no classes",
        ),
        ({"data.batching": {"kind": "buckets"}}, "data.batching.kind"),
        ({"data.batching": {"budget": 1}}, "token_budget"),
    ],
)
def test_what_does_not_go_together_is_refused(make_config, changes, said):
    with pytest.raises(UsageError, match=said):
        make_config(**changes)


def test_filling_up_survives_the_way_to_a_worker(make_config):
    data = build_data(make_config(**{"data.batching": {"pad_rows_to": 4}, "data.num_workers": 1}))
    loader = data.loaders["val"]
    assert isinstance(loader.collate_fn, partial)
    assert all(len(batch.scan_rows) % 4 == 0 for batch in loader)
