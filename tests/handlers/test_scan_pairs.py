from __future__ import annotations

import io
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch import nn

from datasets.batches import Batch, Sample, pad_collate
from engine import EpochMetrics, Phase, Trainer, TrainEvents, UsageError, build_optimizer
from engine.losses import CrossEntropy
from handlers.accumulation import Accumulation
from handlers.loss_weights import LossWeights
from handlers.scan_pairs import ScanPairs, split_scans
from models import LateFusion, LinearPath, SpectraOnly, TFTMultimodal
from models.tft_loss import TFTLoss, info_nce
from tests.engine.test_trainer import ResumableSampler
from tests.no_waiting import refuse_waiting_in_steps

SPEC_LEN, TAB_DIM = 32, 3
COUNTS = (4, 1, 3, 2, 5, 2)
TERM, METRIC = "scan_pairs_loss", "train/scan_pairs_loss"
SMALL: dict[str, Any] = {
    "patch_size": 8,
    "d_model": 8,
    "num_layers": 1,
    "num_heads": 2,
    "spec_emb": 16,
}
MODELS = {
    "tft": lambda **own: TFTMultimodal(TAB_DIM, SPEC_LEN, fusion_dim=16, **SMALL, **own),
    "late_fusion": lambda **own: LateFusion(TAB_DIM, SPEC_LEN, **SMALL, **own),
    "spectra_only": lambda **own: SpectraOnly(SPEC_LEN, **SMALL, **own),
}


def batch_of(counts=COUNTS, seed=0, fill_to=None) -> Batch:
    rng = np.random.default_rng(seed)
    samples = []
    for number, count in enumerate(counts):
        target = number % 2
        own = rng.normal(size=(1, SPEC_LEN)) + target  # what the scans of a sample share
        scans = own + 0.5 * rng.normal(size=(count, SPEC_LEN))
        covariates = rng.normal(size=TAB_DIM)
        samples.append(
            Sample(scans.astype(np.float32), covariates.astype(np.float32), target, f"p{number}")
        )
    return pad_collate(samples, pad_rows_to=fill_to)


class Loader:
    def __init__(self, batches=4, counts=COUNTS):
        self.batches = [batch_of(counts, seed) for seed in range(batches)]
        self.batch_sampler = ResumableSampler()

    def __len__(self):
        return len(self.batches)

    def __iter__(self):
        return iter(self.batches[self.batch_sampler.position :])


def make(handler=None, model="tft", seed=0, loss=None, **own) -> Trainer:
    torch.manual_seed(seed)
    network = MODELS[model](**own) if isinstance(model, str) else model
    optimizer = build_optimizer(network, "adamw", lr=0.003)
    trainer = Trainer(network, optimizer, loss or TFTLoss())
    measured = EpochMetrics(prefix="train/")
    trainer.provide_metrics(*measured.metric_names())
    measured.attach(trainer)
    if handler is not None:
        trainer.attach(handler)
    return trainer


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


@pytest.mark.parametrize("seed", range(5))
def test_the_halves_share_no_scan_and_together_hold_all(seed):
    torch.manual_seed(seed)
    mask = batch_of().mask
    first, second = split_scans(mask)
    several = mask.sum(dim=1) > 1
    assert torch.equal(first | second, mask)
    assert not (first & second)[several].any()
    assert torch.equal(first[~several], mask[~several])
    assert torch.equal(first.sum(dim=1)[several], mask.sum(dim=1)[several] // 2)
    assert second.any(dim=1).all()


def test_every_split_is_another():
    mask = torch.ones(8, 6, dtype=torch.bool)
    assert not torch.equal(split_scans(mask)[0], split_scans(mask)[0])


def test_with_all_samples_paired_it_is_info_nce():
    first, second = torch.randn(2, 5, 7)
    everyone = torch.ones(5, dtype=torch.bool)
    expected = info_nce(first, second, 0.2)
    torch.testing.assert_close(info_nce(first, second, 0.2, everyone), expected)


def test_samples_of_one_scan_are_negatives_only():
    first, second = torch.randn(2, 3, 7)
    paired = torch.tensor([True, False, True])
    unit = [nn.functional.normalize(view, dim=-1) for view in (first, second)]
    scores = unit[0] @ unit[1].T / 0.5
    rows = [-scores.log_softmax(dim)[row, row] for dim in (0, 1) for row in (0, 2)]
    torch.testing.assert_close(info_nce(first, second, 0.5, paired), torch.stack(rows).mean())


@pytest.mark.parametrize("model", MODELS)
def test_the_term_compares_the_embeddings_of_both_halves(model):
    trainer = make(ScanPairs(weight=0.5, temperature=0.2), model, dropout=0.0)
    losses, expected = [], []

    @trainer.on(TrainEvents.BATCH_READY)
    def embed_the_halves(trainer):
        batch, states = trainer.state.batch, torch.get_rng_state()
        first, second = split_scans(batch.mask)
        one, two = (trainer.model(batch.spectra, half, batch.tabular) for half in (first, second))
        torch.set_rng_state(states)  # the handler draws the same afterwards
        name = "spec_embedding" if "spec_embedding" in one else "embedding"
        paired = batch.mask.sum(dim=1) > 1
        expected.append(info_nce(one[name], two[name], 0.2, paired).item())

    @trainer.on(TrainEvents.LOSS_COMPLETED)
    def keep(trainer):
        own = trainer.loss(trainer.state.outputs, trainer.state.batch.target)["total_loss"]
        losses.append({n: v.item() for n, v in trainer.state.losses.items()} | {"own": own.item()})

    trainer.fit(Loader(), 1)
    assert [step[TERM] for step in losses] == pytest.approx(expected, abs=1e-4)
    for step in losses:
        assert step["total_loss"] == pytest.approx(step["own"] + 0.5 * step[TERM], abs=1e-5)
    assert trainer.state.metrics[METRIC] == pytest.approx(np.mean(expected), abs=1e-4)


def test_others_see_the_batch_and_the_outputs_without_the_views():
    trainer, loader = make(ScanPairs()), Loader()
    seen = []

    @trainer.on(TrainEvents.FORWARD_COMPLETED)
    def look(trainer):
        batch, outputs = trainer.state.batch, trainer.state.outputs
        assert len(outputs["logits"]) == len(outputs["attention_weights"]["scan_pooling"]) == 6
        seen.append(batch)

    trainer.fit(loader, 1)
    for batch, given in zip(seen, loader.batches, strict=True):
        assert torch.equal(batch.spectra, given.spectra)
        assert torch.equal(batch.mask, given.mask)
        assert batch.scan_rows is not None
        assert given.scan_rows is not None
        assert torch.equal(batch.scan_rows, given.scan_rows)


@pytest.mark.parametrize("fill_to", [None, 8, 64])
def test_rows_of_real_scans_change_nothing(fill_to):
    found = []
    for with_rows in (True, False):
        batch = batch_of(fill_to=fill_to)
        batch = batch if with_rows else replace(batch, scan_rows=None)
        trainer = make(ScanPairs(), dropout=0.0)
        loader = Loader(1)
        loader.batches = [batch]
        torch.manual_seed(3)
        trainer.fit(loader, 1)
        found.append(trainer.state.metrics)
    assert found[0] == pytest.approx(found[1], rel=1e-4)


@pytest.mark.slow
def test_training_by_it_draws_the_halves_together():
    trainer, seen = make(ScanPairs(weight=1.0)), []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED, lambda t: seen.append(t.state.metrics[METRIC])
    )
    trainer.fit(Loader(), 15)
    assert seen[-1] < 0.7 * seen[0]


@pytest.mark.parametrize("order", [1, -1])
def test_it_is_added_to_what_loss_weights_sums(order):
    trainer, seen = make(), []
    handlers: list[Any] = [ScanPairs(weight=0.5), LossWeights({"main_loss": 2.0})]
    trainer.attach(*handlers[::order])
    trainer.add_event_handler(
        TrainEvents.LOSS_COMPLETED, lambda t: seen.append(dict(t.state.losses)), phase=Phase.SAVE
    )
    trainer.fit(Loader(), 1)
    for losses in seen:
        expected = 2 * losses["main_loss"] + 0.5 * losses[TERM]
        torch.testing.assert_close(losses["total_loss"], expected)


@pytest.mark.slow
def test_an_epoch_that_was_cut_continues_bit_identically():
    straight, cut, resumed = (make(ScanPairs(), seed=seed) for seed in (0, 0, 9))
    states = {}
    torch.manual_seed(5)
    straight.fit(Loader(), 3)
    torch.manual_seed(5)

    @cut.on(Events.ITERATION_COMPLETED(once=6))
    def save_and_leave():
        states.update(through_a_file(cut.capture()))
        cut.terminate()

    cut.fit(Loader(), 3)
    assert states["scan_pairs"]["pairs"] == 10
    resumed.restore(states)
    resumed.fit(Loader(), 3)
    assert resumed.state.metrics == straight.state.metrics
    for name, tensor in straight.model.state_dict().items():
        assert torch.equal(tensor, resumed.model.state_dict()[name]), name


def test_an_epoch_without_pairs_is_said_once_each():
    trainer, notices = make(ScanPairs()), []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice))
    trainer.fit(Loader(counts=(1, 1, 1)), 2)
    assert [notice["event"] for notice in notices] == ["notice", "notice"]
    assert "no sample of this epoch has two scans" in notices[0]["message"]
    assert trainer.state.metrics[METRIC] == 0


def test_it_works_with_accumulation_and_waits_for_nothing():
    trainer = make(ScanPairs(on="embedding"))
    trainer.attach(Accumulation(2))
    refuse_waiting_in_steps(trainer)
    trainer.fit(Loader(), 1)
    assert trainer.state.metrics[METRIC] > 0


class WithoutEmbedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(SPEC_LEN, 2)

    def forward(self, spectra, mask, tabular):
        return {"logits": self.head(spectra.mean(dim=1)), "scans": spectra}


@pytest.mark.parametrize(
    ("on", "message"),
    [
        (None, "scan_pairs: the model returns no spec_embedding or embedding; set on"),
        ("logit", "the model returns no 'logit' for the loss; did you mean 'logits'"),
        ("scans", r"scan_pairs.on: 'scans' has shape \[18, 5, 32\]; expected \[18, E\]"),
    ],
)
def test_a_model_without_the_embedding_is_refused_in_a_line(on, message):
    trainer = make(ScanPairs(on=on), WithoutEmbedding(), loss=CrossEntropy())
    with pytest.raises(UsageError, match=message):
        trainer.fit(Loader(), 1)


@pytest.mark.parametrize("params", [{"weight": 0}, {"weight": -1}, {"temperature": 0.0}])
def test_numbers_out_of_range_are_refused(params):
    with pytest.raises(
        UsageError, match=f"scan_pairs.{next(iter(params))}: a number above 0 was exp"
    ):
        ScanPairs(**params)


def test_halves_of_five_scans_are_two_and_three():
    first, second = split_scans(torch.ones(1, 5, dtype=torch.bool))
    assert (first.sum().item(), second.sum().item()) == (2, 3)
    assert not (first & second).any()


def test_offsets_of_a_linear_path_are_those_of_each_view():
    network = LinearPath(MODELS["tft"](), SPEC_LEN, TAB_DIM, 2)
    trainer = make(ScanPairs(), network)
    loader = Loader()
    offsets = []
    for batch in loader.batches:
        offsets.append(torch.randn(len(batch.mask), 2))
        batch.offset = offsets[-1]
    trainer.fit(loader, 1)
    for batch, before in zip(loader.batches, offsets, strict=True):
        assert batch.offset is before
    assert trainer.state.outputs["logits"].shape == offsets[-1].shape
