from __future__ import annotations

import io
import math

import pytest
import torch
from ignite.engine import Events
from torch.nn import functional

from engine import EpochMetrics, Phase, Trainer, TrainEvents, UsageError, build_optimizer
from engine.losses import CrossEntropy, OutputNorm, Term, WeightedLoss
from handlers.accumulation import Accumulation
from handlers.loss_weights import LossWeights, Ramp
from handlers.lr_schedule import LRSchedule
from handlers.validation import Validation
from models.tft_loss import TFTLoss
from tests.engine.test_trainer import ResumableLoader, weights
from tests.no_waiting import refuse_waiting_in_steps
from tests.tiny_problem import TinyLoader, TinyModel


def two_terms(outputs, target):
    """A loss that weighs its second term itself."""
    main = functional.cross_entropy(outputs["logits"], target)
    size = outputs["embedding"].square().mean()
    return {"total_loss": main + 0.5 * size, "main_loss": main, "size_loss": size}


def build(tmp_path, *handlers, loss=two_terms, seed=0, **optimizer):
    torch.manual_seed(seed)
    model = TinyModel()
    settings = {"lr": 0.01, **optimizer}
    trainer = Trainer(model, build_optimizer(model, **settings), loss, run_dir=tmp_path)
    metrics = EpochMetrics(prefix="train/")
    metrics.attach(trainer)
    trainer.provide_metrics(*metrics.metric_names(["main_loss", "size_loss"]))
    trainer.attach(*handlers)
    return trainer


def weights_by_epoch(trainer, loader, epochs, *terms):
    seen = []
    trainer.add_event_handler(
        Events.EPOCH_COMPLETED,
        lambda t: seen.append([t.state.metrics[f"train/weight_{term}"] for term in terms]),
    )
    trainer.fit(loader, epochs)
    return seen


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def test_the_total_is_the_weighted_sum_of_the_listed_terms(tmp_path, loader):
    trainer, errors = build(tmp_path, LossWeights({"main_loss": 2.0, "size_loss": 0.25})), []

    def compare(trainer):
        losses = trainer.state.losses
        expected = 2 * losses["main_loss"] + 0.25 * losses["size_loss"]
        errors.append(float((losses["total_loss"] - expected).detach().abs()))

    trainer.add_event_handler(TrainEvents.LOSS_COMPLETED, compare)
    trainer.fit(loader, 1)
    assert len(errors) == 5
    assert max(errors) < 1e-6


def test_the_losss_own_weights_give_the_same_training(tmp_path, loader):
    results = []
    for handlers in ([LossWeights({"main_loss": 1, "size_loss": 0.5})], []):
        trainer = build(tmp_path, *handlers)
        torch.manual_seed(3)
        trainer.fit(loader, 2)
        results.append(weights(trainer))
    assert torch.equal(*results)


def only_main(outputs, target):
    losses = two_terms(outputs, target)
    return {**losses, "total_loss": losses["main_loss"]}


def test_a_term_that_is_not_listed_is_logged_but_not_trained(tmp_path, loader):
    results = []
    for loss, handlers in ((two_terms, [LossWeights({"main_loss": 1.0})]), (only_main, [])):
        trainer = build(tmp_path, *handlers, loss=loss)
        torch.manual_seed(3)
        trainer.fit(loader, 2)
        results.append(weights(trainer))
        assert trainer.state.metrics["train/size_loss"] > 0
    assert torch.equal(*results)


@pytest.mark.parametrize(
    ("ramp", "expected"),
    [
        ({"start": 0.0, "end": 1.0, "epochs": 2}, [0.0, 0.5, 1.0, 1.0, 1.0]),
        ({"start": 1.0, "end": 0.2, "epochs": 4}, [1.0, 0.8, 0.6, 0.4, 0.2]),
        ({"start": 0.0, "end": 1.0, "epochs": 2, "first_epoch": 3}, [0, 0, 0, 0.5, 1.0]),
        (
            {"start": 0.0, "end": 2.0, "epochs": 3, "shape": "cosine"},
            [0.0, 0.5, 1.5, 2.0, 2.0],
        ),
        (0.3, [0.3] * 5),
    ],
)
def test_a_weight_changes_by_epoch_and_is_a_metric(tmp_path, loader, ramp, expected):
    trainer = build(tmp_path, LossWeights({"main_loss": 1.0, "size_loss": ramp}))
    trainer.monitor_metric("train/weight_size_loss", "a user")
    seen = weights_by_epoch(trainer, loader, 5, "main_loss", "size_loss")
    assert [main for main, _ in seen] == [1.0] * 5
    assert [size for _, size in seen] == pytest.approx(expected)


def test_a_ramp_ends_exactly_at_its_end():
    assert Ramp(0.1, 0.7, epochs=3).at(4) == 0.7
    assert Ramp(0.1, 0.7, epochs=3, shape="cosine").at(50) == 0.7


def test_a_term_of_weight_zero_cannot_spoil_the_total(tmp_path, loader):
    def broken(outputs, target):
        losses = two_terms(outputs, target)
        return {**losses, "size_loss": losses["size_loss"] * math.nan}

    ramp = {"start": 0.0, "end": 1.0, "epochs": 1}
    trainer = build(tmp_path, LossWeights({"main_loss": 1, "size_loss": ramp}), loss=broken)
    trainer.fit(loader, 1)
    assert bool(torch.isfinite(weights(trainer)).all())


def test_the_reported_total_does_not_depend_on_the_batch_size(tmp_path):
    def terms():
        weighted = CrossEntropy(class_weights=[1.0, 8.0])
        return WeightedLoss({"main_loss": weighted, "size_loss": Term(OutputNorm(), weight=0.5)})

    def total(batch_size):
        ramp = {"start": 0.2, "end": 1.0, "epochs": 3}
        moving = LossWeights({"main_loss": 2.0, "size_loss": ramp})
        trainer = build(tmp_path, moving, loss=terms(), lr=0.0)
        trainer.model.eval()
        trainer.add_event_handler(Events.EPOCH_STARTED, lambda: trainer.model.eval())
        trainer.fit(TinyLoader(20, batch_size), 1)
        return trainer.state.metrics["train/loss"]

    assert total(3) == pytest.approx(total(20), abs=1e-6)


def test_a_learned_weight_follows_the_formula(tmp_path, loader):
    handler = LossWeights({"main_loss": "uncertainty", "size_loss": "uncertainty"}, lr=0.1)
    trainer = build(tmp_path, handler, name="sgd")
    s = {"main_loss": 0.0, "size_loss": 0.0}

    def by_hand(trainer):
        losses = trainer.state.losses
        total = sum(math.exp(-s[term]) * float(losses[term].detach()) + s[term] for term in s)
        assert float(losses["total_loss"].detach()) == pytest.approx(total, abs=1e-5)
        for term in s:  # d/ds (exp(-s) L + s) = 1 - exp(-s) L
            s[term] -= 0.1 * (1 - math.exp(-s[term]) * float(losses[term].detach()))

    trainer.add_event_handler(TrainEvents.LOSS_COMPLETED, by_hand)
    (seen,) = weights_by_epoch(trainer, loader, 1, "main_loss", "size_loss")
    assert seen == pytest.approx([math.exp(-s["main_loss"]), math.exp(-s["size_loss"])], abs=1e-5)
    assert abs(seen[0] - 1) > 0.01


def test_a_learned_weight_finds_the_terms_size(tmp_path, loader):
    """The optimum of exp(-s) L + s is exp(s) = L, where the weight is 1 / L."""

    def constant(outputs, target):
        return {**two_terms(outputs, target), "size_loss": outputs["logits"].new_tensor(4.0)}

    handler = LossWeights({"main_loss": 1.0, "size_loss": "uncertainty"}, lr=0.1)
    trainer = build(tmp_path, handler, loss=constant)
    seen = weights_by_epoch(trainer, loader, 40, "main_loss", "size_loss")
    assert seen[-1] == [1.0, pytest.approx(0.25, abs=0.01)]


def test_learned_weights_are_a_group_without_decay(tmp_path):
    trainer = build(tmp_path, LossWeights({"main_loss": 1, "size_loss": "uncertainty"}))
    group = trainer.optimizer.param_groups[-1]
    assert (group["name"], group["weight_decay"], group["lr"]) == ("loss_weights", 0.0, 0.01)
    assert len(group["params"]) == 1
    fixed = build(tmp_path, LossWeights({"main_loss": 1}))
    assert len(fixed.optimizer.param_groups) == len(trainer.optimizer.param_groups) - 1


@pytest.mark.parametrize("order", [1, -1])
def test_a_schedule_moves_the_learned_weights_rate_in_any_order(tmp_path, loader, order):
    handlers = [LossWeights({"main_loss": "uncertainty"}, lr=0.5), LRSchedule("cosine")]
    trainer = build(tmp_path, *handlers[::order])
    trainer.fit(loader, 2)
    first, last = trainer.optimizer.param_groups[0], trainer.optimizer.param_groups[-1]
    assert last["initial_lr"] == 0.5
    assert last["lr"] / 0.5 == pytest.approx(first["lr"] / 0.01)


def test_validation_keeps_the_losss_own_total(tmp_path, loader, make_evaluator):
    trainer = build(tmp_path, LossWeights({"main_loss": 7.0}))
    trainer.attach(Validation(make_evaluator(trainer), loader, loss_terms=["main_loss"]))
    trainer.fit(loader, 1)
    metrics = trainer.state.metrics
    own = metrics["val/main_loss"] + 0.5 * metrics["val/size_loss"]
    assert metrics["val/loss"] == pytest.approx(own)
    assert metrics["train/loss"] == pytest.approx(7 * metrics["train/main_loss"])


def test_the_terms_of_the_transformers_loss_can_be_weighted(tmp_path, loader):
    handler = LossWeights(
        {
            "main_loss": 1.0,
            "aux_spec_loss": 0.3,
            "aux_tab_loss": {"start": 0.3, "end": 0.0, "epochs": 1},
            "contrastive_loss": "uncertainty",
        }
    )
    trainer = build(tmp_path, handler, loss=TFTLoss())
    trainer.fit(loader, 2)
    assert trainer.state.metrics["train/weight_aux_tab_loss"] == 0.0


def test_nothing_in_a_step_waits_for_the_device(tmp_path, loader):
    ramp = {"start": 0.0, "end": 1.0, "epochs": 1}
    trainer = build(tmp_path, LossWeights({"main_loss": "uncertainty", "size_loss": ramp}))
    refuse_waiting_in_steps(trainer)
    trainer.fit(loader, 2)


@pytest.mark.parametrize("cut_at", [3, 5, 8])
def test_a_resumed_run_continues_identically(tmp_path, cut_at):
    def make(seed=0):
        ramp = {"start": 0.0, "end": 1.0, "epochs": 2}
        handler = LossWeights({"main_loss": "uncertainty", "size_loss": ramp}, lr=0.1)
        return build(tmp_path, Accumulation(2), handler, seed=seed)

    straight, cut, resumed = make(), make(), make(seed=9)
    torch.manual_seed(5)
    straight.fit(ResumableLoader(), 3)
    states: dict[str, object] = {}

    def save_and_leave(trainer):
        if trainer.state.sync_gradients and not states:
            states.update(through_a_file(trainer.capture()))
            trainer.terminate()

    within = Events.ITERATION_COMPLETED(event_filter=lambda _, i: i >= cut_at)
    event = within if cut_at % 5 else Events.EPOCH_COMPLETED(once=1)
    cut.add_event_handler(event, save_and_leave, phase=Phase.SAVE)
    torch.manual_seed(5)
    cut.fit(ResumableLoader(), 3)
    resumed.restore(states)
    resumed.fit(ResumableLoader(), 3)
    assert torch.equal(weights(straight), weights(resumed))
    assert straight.state.metrics == resumed.state.metrics
    assert straight.state.metrics["train/weight_main_loss"] != 1.0


def test_a_state_with_other_learned_terms_is_refused(tmp_path):
    state = LossWeights({"main_loss": 1.0}).state_dict()
    handler = LossWeights({"main_loss": "uncertainty"})
    build(tmp_path, handler)
    with pytest.raises(ValueError, match="it had learned the weights of: no term"):
        handler.load_state_dict(state)


def test_a_term_that_the_loss_lacks_is_refused_with_the_nearest(tmp_path, loader):
    trainer = build(tmp_path, LossWeights({"main_loss": 1.0, "sise_loss": 1.0}))
    with pytest.raises(UsageError, match=r"no term 'sise_loss'; did you mean 'size_loss'\?") as no:
        trainer.fit(loader, 1)
    assert "total_loss" not in str(no.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "must map at least one term"),
        ([("main_loss", 1.0)], "must map at least one term"),
        ({"total_loss": 1.0}, "total_loss is what the terms are summed to"),
        ({"main_loss": -1.0}, "main_loss, .*or uncertainty: a number at least 0 .*, not -1"),
        ({"main_loss": "uncertain"}, "main_loss, unless a mapping .*: a number at least 0"),
        ({"main_loss": True}, "main_loss, .*: a number at least 0"),
        ({"main_loss": {"start": 0.0, "end": 1.0}}, "main_loss.epochs is missing"),
        (
            {"main_loss": {"start": 0.0, "epochs": 3}},
            "main_loss.end: a number at least 0.* not",
        ),
        ({"main_loss": {"start": 0, "end": math.nan, "epochs": 3}}, "main_loss.end: a number at"),
        ({"main_loss": {"start": 0, "end": 1, "epochs": 0}}, "main_loss.epochs: a whole"),
        ({"main_loss": {"begin": 0}}, "'begin' is unknown .*choices: start, end"),
        (
            {"main_loss": {"start": 0, "end": 1, "epochs": 3, "shape": "cosin"}},
            "there is no 'cosin'; did you mean 'cosine'",
        ),
        ({"main_loss": {"start": 0.0, "end": 1.0, "epochs": 3}}, "all are zero in epoch 1"),
        (
            {
                "main_loss": {"start": 1.0, "end": 0.0, "epochs": 3},
                "size_loss": {"start": 0.0, "end": 1.0, "epochs": 1, "first_epoch": 5},
            },
            "all are zero in epoch 4",
        ),
    ],
)
def test_a_setting_out_of_range_is_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        LossWeights(settings)


def test_a_rate_that_is_no_rate_is_refused():
    with pytest.raises(UsageError, match=r"loss_weights.lr: a number at least 0 was"):
        LossWeights({"main_loss": "uncertainty"}, lr=-1)


def test_a_ramp_ends_at_its_end():
    ramp = Ramp(start=0.0, end=1.0, epochs=2)
    assert [ramp.at(epoch) for epoch in (1, 2, 3, 4)] == [0.0, 0.5, 1.0, 1.0]
