"""An optimizer step is that of one batch with all its samples."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from datasets.loading import SpectraDataset, make_loader
from engine import EpochMetrics, Evaluator, Trainer, TrainEvents
from engine.losses import CrossEntropy, FocalLoss, OutputNorm, Term, WeightedLoss
from engine.optim.step_shares import shares
from handlers.accumulation import Accumulation
from handlers.loss_weights import LossWeights
from models.tft_loss import TFTLoss
from tests.tiny_problem import FEATURES, TinyLoader

SAMPLES, CLASSES = 23, 3
WEIGHTS = [1.0, 5.0, 20.0]
HEADS = ("logits", "aux_logits_spec", "aux_logits_tab")
# The third class is in the last batch alone.
TARGET = torch.tensor([0, 1, 0, 0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 2, 0, 2])


class Heads(nn.Module):
    """A model with auxiliary heads in which nothing looks at the batch as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.ModuleDict({name: nn.Linear(FEATURES, CLASSES) for name in HEADS})

    def forward(self, spectra, mask, tabular):
        scan = spectra.mean(dim=1)
        found = {name: head(scan) for name, head in self.heads.items()}
        return {**found, "embedding": found["logits"]}


def mixed() -> WeightedLoss:
    """Terms whose means are divided by different things."""
    return WeightedLoss(
        {
            "main_loss": CrossEntropy(class_weights=WEIGHTS, label_smoothing=0.1),
            "focal_loss": Term(FocalLoss(alpha=WEIGHTS), weight=0.5, on="aux_logits_spec"),
            "norm_loss": Term(OutputNorm(), weight=0.1),
        }
    )


LOSSES = {
    "plain": CrossEntropy,
    "class weights": lambda: CrossEntropy(class_weights=WEIGHTS),
    "a class of weight 0": lambda: CrossEntropy(class_weights=[0.0, 1.0, 1.0]),
    "focal": lambda: FocalLoss(alpha=WEIGHTS),
    "tft": lambda: TFTLoss(class_weights=WEIGHTS, label_smoothing=0.1),
    "terms of unlike denominators": mixed,
}


def batches(batch_size: int, aux: bool = False) -> TinyLoader:
    loader = TinyLoader(SAMPLES, batch_size)
    parts = TARGET.split(batch_size)
    loader.batches = [replace(b, target=t) for b, t in zip(loader.batches, parts, strict=True)]
    if aux:
        loader.batches = [WithAux(batch) for batch in loader.batches]  # type: ignore[misc]
    return loader


class WithAux:
    """A batch that brings targets of its own for the auxiliary heads."""

    def __init__(self, batch):
        self.batch, self.aux = batch, {"spec": batch.target.flip(0), "tab": 2 - batch.target}

    def __getattr__(self, name):
        return getattr(self.batch, name)

    def to(self, device, non_blocking=False):
        return self


def gradients(loader, steps, loss, *handlers):
    """The gradient of each optimizer step of one epoch."""
    torch.manual_seed(0)
    model, found = Heads(), []
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.0), loss)
    trainer.attach(Accumulation(steps), *handlers)

    @trainer.on(TrainEvents.GRADIENTS_READY)
    def look(trainer):
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append(torch.cat(grads).clone())

    trainer.fit(loader, 1)
    return found


def assert_same_gradients(small, large):
    assert len(small) == len(large)
    for mine, theirs in zip(small, large, strict=True):
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-6


@pytest.mark.parametrize("loss", LOSSES)
def test_unequal_micro_batches_give_the_joint_gradient(loss):
    # 23 samples by 4: the sixth micro-batch has 3.
    small = gradients(batches(4), 6, LOSSES[loss]())
    assert_same_gradients(small, gradients(batches(SAMPLES), 1, LOSSES[loss]()))


@pytest.mark.parametrize("loss", LOSSES)
def test_the_last_step_of_an_epoch_is_its_own_batch(loss):
    # Steps of 16 and of 7 samples, from 4 and from 2 micro-batches.
    small = gradients(batches(4), 4, LOSSES[loss]())
    assert_same_gradients(small, gradients(batches(16), 1, LOSSES[loss]()))


def test_targets_of_auxiliary_heads_are_weighted_by_themselves():
    small = gradients(batches(4, aux=True), 6, TFTLoss(class_weights=WEIGHTS))
    large = gradients(batches(SAMPLES, aux=True), 1, TFTLoss(class_weights=WEIGHTS))
    # The joint batch is flipped as a whole, so that only the sums over the heads agree.
    size = FEATURES * CLASSES + CLASSES
    for head in (0, 2):
        mine, theirs = (each[0][head * size : (head + 1) * size] for each in (small, large))
        assert float((mine - theirs).norm() / theirs.norm()) < 1e-6


@pytest.mark.parametrize("size", [4, 1])
def test_learned_weights_of_terms_keep_the_joint_gradient(size):
    def learned(batch_size):
        torch.manual_seed(0)
        model, found = Heads(), []
        trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.0), mixed())
        weights = LossWeights({"main_loss": "uncertainty", "norm_loss": "uncertainty"})
        trainer.attach(Accumulation(-(-SAMPLES // batch_size)), weights)

        @trainer.on(TrainEvents.GRADIENTS_READY)
        def look(trainer):
            (group,) = (g for g in trainer.optimizer.param_groups if g.get("name"))
            found.append(torch.stack([s.grad for s in group["params"]]))

        trainer.fit(batches(batch_size), 1)
        return found

    assert_same_gradients(learned(size), learned(SAMPLES))


def test_moving_weights_of_terms_keep_the_joint_gradient():
    weights = {"main_loss": 1.0, "norm_loss": 0.3}
    small = gradients(batches(4), 6, mixed(), LossWeights(weights))
    assert_same_gradients(small, gradients(batches(SAMPLES), 1, mixed(), LossWeights(weights)))


@pytest.mark.parametrize("loss", ["plain", "class weights"])
def test_a_sampler_that_knows_sizes_gives_the_same(loss):
    spectra = torch.randn(SAMPLES, FEATURES, generator=torch.Generator().manual_seed(0)).numpy()
    rows = list(torch.arange(SAMPLES)[:, None].numpy())
    names = [str(row) for row in range(SAMPLES)]
    data = SpectraDataset(spectra, rows, torch.zeros(SAMPLES, 1).numpy(), TARGET.numpy(), names)
    small = gradients(make_loader(data, 4), 6, LOSSES[loss]())
    assert_same_gradients(small, gradients(make_loader(data, SAMPLES), 1, LOSSES[loss]()))


@pytest.mark.parametrize("name", LOSSES)
def test_the_validation_loss_does_not_depend_on_batch_size(name):
    torch.manual_seed(0)
    model, loss = Heads(), LOSSES[name]()
    found = []
    for size in (1, 4, 7, SAMPLES):
        evaluator = Evaluator(model, loss, EpochMetrics([]))
        found.append(evaluator.evaluate(batches(size)))
    for metrics in found:
        assert metrics == pytest.approx(found[-1], rel=1e-6)


def test_the_training_loss_is_that_of_the_joint_batch():
    found = []
    for size in (4, SAMPLES):
        torch.manual_seed(0)
        model = Heads()
        trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.0), mixed())
        EpochMetrics([], prefix="train/").attach(trainer)
        trainer.fit(batches(size), 1)
        found.append(trainer.state.metrics)
    assert found[0] == pytest.approx(found[1], rel=1e-6)


def test_a_total_that_a_handler_makes_is_reported_as_it_is():
    torch.manual_seed(0)
    model = Heads()
    trainer = Trainer(model, torch.optim.SGD(model.parameters(), 0.0), mixed())
    trainer.attach(LossWeights({"norm_loss": 2.0}))
    EpochMetrics([], prefix="train/").attach(trainer)
    trainer.fit(batches(4), 1)
    metrics = trainer.state.metrics
    assert metrics["train/loss"] == pytest.approx(2 * metrics["train/norm_loss"], rel=1e-6)


def test_a_whole_step_is_left_as_it_is():
    trainer = Trainer(Heads(), torch.optim.SGD([torch.zeros(1)], 0.0), CrossEntropy())
    loader = batches(4)
    assert trainer.step_shares.prepare(trainer, loader) is loader
    assert trainer.state.batch_weight is None


@pytest.mark.parametrize("sizes", [[4, 2, 1, 1], [3, 3, 2, 1, 1, 5]])
def test_shares_turn_means_over_ranks_into_means_over_samples(sizes):
    of_ranks = [shares(sizes, rank, 2) for rank in range(2)]
    for step, (first, second) in enumerate(zip(*of_ranks, strict=True)):
        here = sizes[2 * step : 2 * step + 2]
        assert [first / 2, second / 2] == pytest.approx([n / sum(here) for n in here])


def test_shares_follow_sizes_of_ranks_and_micro_batches():
    assert shares([4, 2, 1, 1], rank=0, world_size=2) == pytest.approx([4 / 3, 1])
    assert shares([4, 2, 2], steps=2) == pytest.approx([2 / 3, 1 / 3, 1])
