from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from ignite.engine import Events
from torch.optim import swa_utils

from datasets.loading import SpectraDataset, make_loader
from engine import Evaluator, Phase, TrainEvents, UsageError
from handlers.checkpoint import Checkpoint
from handlers.early_stopping import EarlyStopping
from handlers.freeze import Freeze
from handlers.swa import SWA
from handlers.validation import Validation
from tests.engine.test_trainer import ResumableLoader
from tests.tiny_problem import FEATURES, TinyLoader

STATISTICS = ("body.1.running_mean", "body.1.running_var", "body.1.num_batches_tracked")


def parameters(trainer):
    return {name: p.detach().clone() for name, p in trainer.model.named_parameters()}


def everything(trainer):
    return {name: tensor.clone() for name, tensor in trainer.model.state_dict().items()}


def assert_equal(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name


def through_a_file(states):
    file = io.BytesIO()
    torch.save(states, file)
    file.seek(0)
    return torch.load(file, weights_only=True)


def weights_by_epoch(trainer):
    seen = []
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda t: seen.append(parameters(t)))
    return seen


def averaged(trainer, swa):
    with swa.averaged_weights():
        return everything(trainer)


@pytest.fixture
def trained(make_trainer, loader):
    trainer, swa = make_trainer(), SWA(start_epoch=2)
    trainer.attach(swa)
    torch.manual_seed(1)
    trainer.fit(loader, 4)
    return trainer, swa


@pytest.mark.parametrize(
    ("settings", "epochs"),
    [
        ({"start_epoch": 1}, [1, 2, 3, 4, 5, 6]),
        ({"start_epoch": 3}, [3, 4, 5, 6]),
        ({"start_epoch": 2, "every_epochs": 2}, [2, 4, 6]),
        ({}, [5, 6]),  # the last quarter, from 5 on
        ({"start_epoch": 6}, [6]),
    ],
)
def test_each_due_epoch_has_the_same_say(make_trainer, loader, settings, epochs):
    trainer, swa = make_trainer(), SWA(**settings)
    seen = weights_by_epoch(trainer)
    trainer.attach(swa)
    trainer.fit(loader, 6)
    average = averaged(trainer, swa)
    assert swa.averaged == len(epochs)
    for name in seen[0]:
        mean = torch.stack([seen[epoch - 1][name] for epoch in epochs]).double().mean(dim=0)
        torch.testing.assert_close(average[name].double(), mean, rtol=1e-5, atol=1e-6)


def test_it_is_torchs_average_and_torchs_statistics(make_trainer, loader):
    trainer, swa = make_trainer(), SWA(start_epoch=2)
    torchs = swa_utils.AveragedModel(trainer.model)

    @trainer.on(Events.EPOCH_COMPLETED)
    def update(trainer):
        if trainer.state.epoch >= 2:
            torchs.update_parameters(trainer.model)

    trainer.attach(swa)
    trainer.fit(loader, 4)
    torchs.get_submodule("module.body.3").eval()  # the statistics are those without dropout
    norm = torchs.get_submodule("module.body.1")
    assert isinstance(norm, torch.nn.BatchNorm1d)
    norm.reset_running_stats()
    norm.momentum = None
    for batch in loader:
        torchs.module(batch.spectra, batch.mask, batch.tabular)
    expected = torchs.module.state_dict()
    for name, value in averaged(trainer, swa).items():
        torch.testing.assert_close(value, expected[name], rtol=1e-5, atol=1e-6)


def test_norm_statistics_are_recomputed_unless_switched_off(make_trainer, loader):
    for update in (True, False):
        trainer, swa = make_trainer(), SWA(start_epoch=1, update_norms=update)
        trainer.attach(swa)
        trainer.fit(loader, 3)
        live, average = everything(trainer), averaged(trainer, swa)
        for name in STATISTICS:
            assert torch.equal(live[name], average[name]) == (not update)


class DrawingLoader(TinyLoader):
    """Draws from the global stream, as augmentation may."""

    def __iter__(self):
        torch.rand(1)
        return super().__iter__()


def test_training_itself_is_not_changed(make_trainer):
    results = []
    for handlers in ([SWA(start_epoch=1)], []):
        trainer = make_trainer()
        trainer.attach(*handlers)
        torch.manual_seed(1)
        trainer.fit(DrawingLoader(), 4)
        results.append((everything(trainer), trainer.state.metrics))
        assert trainer.model.body[1].momentum == 0.1
        assert trainer.model.body[1].training
    assert_equal(results[0][0], results[1][0])
    assert results[0][1] == results[1][1]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_pass_over_the_real_loader_leaves_its_order_alone(make_trainer, workers):
    generator = np.random.default_rng(0)
    spectra = generator.normal(size=(14, FEATURES)).astype(np.float32)
    target = (spectra[:, 0] > 0).astype(int)
    rows = [np.array([i]) for i in range(14)]
    results = []
    for handlers in ([SWA(start_epoch=1)], []):
        names = [f"s{i}" for i in range(14)]
        dataset = SpectraDataset(spectra, rows, np.zeros((14, 0)), target, names)
        loader = make_loader(dataset, 4, shuffle=True, num_workers=workers)
        trainer = make_trainer()
        seen: list[list[str]] = []
        trainer.attach(*handlers)
        trainer.add_event_handler(
            Events.ITERATION_COMPLETED, lambda t, seen=seen: seen.append(t.state.batch.sample_id)
        )
        torch.manual_seed(1)
        trainer.fit(loader, 3)
        results.append((seen, everything(trainer)))
    assert results[0][0] == results[1][0]
    assert_equal(results[0][1], results[1][1])


def test_the_context_holds_the_average_and_gives_all_back(trained):
    trainer, swa = trained
    live, average = everything(trainer), averaged(trainer, swa)
    assert_equal(everything(trainer), live)
    assert_equal(averaged(trainer, swa), average)
    assert not torch.equal(live["head.weight"], average["head.weight"])
    with pytest.raises(KeyboardInterrupt), swa.averaged_weights():
        raise KeyboardInterrupt
    assert_equal(everything(trainer), live)


def test_nesting_is_refused_and_harms_nothing(trained):
    trainer, swa = trained
    live = everything(trainer)
    with (
        swa.averaged_weights(),
        pytest.raises(RuntimeError, match="in place already"),
        swa.averaged_weights(),
    ):
        pass
    assert_equal(everything(trainer), live)


def test_before_the_first_averaging_the_context_changes_nothing(make_trainer, loader):
    trainer, swa = make_trainer(), SWA(start_epoch=3)
    trainer.attach(swa)
    trainer.fit(loader, 2)
    assert_equal(averaged(trainer, swa), everything(trainer))


def test_validation_measures_the_average_of_the_epoch_itself(make_trainer, make_evaluator, loader):
    trainer, swa, expected = make_trainer(), SWA(start_epoch=2), []
    evaluator = make_evaluator(trainer)
    trainer.attach(Validation(evaluator, loader, weights=swa.averaged_weights), swa)

    def measure(trainer):
        other = Evaluator(trainer.model, trainer.loss, type(evaluator.metrics)())
        expected.append(other.evaluate(loader, swa.averaged_weights)["loss"])
        assert trainer.state.metrics["val/loss"] == expected[-1]

    trainer.add_event_handler(Events.EPOCH_COMPLETED, measure)
    trainer.fit(loader, 3)
    assert len(set(expected)) == 3


def test_a_frozen_norm_keeps_its_statistics(make_trainer, loader):
    trainer, swa = make_trainer(), SWA(start_epoch=1)
    trainer.attach(Freeze("body.1"), swa)
    before = everything(trainer)
    trainer.fit(loader, 2)
    average = averaged(trainer, swa)
    assert all(torch.equal(before[name], average[name]) for name in STATISTICS)
    assert not trainer.model.body[1].training


def test_broken_weights_are_passed_over(make_trainer, loader):
    trainer, swa, notices = make_trainer(), SWA(start_epoch=1), []
    trainer.attach(swa)
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(dict(t.state.notice)))

    def break_it(trainer):
        with torch.no_grad():
            trainer.model.head.bias.fill_(float("inf"))

    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=10), break_it)
    trainer.fit(loader, 2)
    assert swa.averaged == 1
    assert [n["event"] for n in notices] == ["swa_started", "swa_skipped"]
    assert "head.bias" in notices[1]["message"]
    assert all(bool(t.isfinite().all()) for t in averaged(trainer, swa).values())


def build(make_trainer, seed=0, **optimizer):
    trainer, swa = make_trainer(seed, **optimizer), SWA(start_epoch=2)
    rows = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: rows.append(dict(t.state.notice)))
    trainer.attach(swa)
    return trainer, swa, rows


@pytest.mark.parametrize("cut_at", [3, 5, 8, 10, 15, 18])
def test_a_resumed_run_ends_with_the_same_average(make_trainer, cut_at):
    straight, whole, rows = build(make_trainer)
    torch.manual_seed(5)
    straight.fit(ResumableLoader(), 4)

    cut, _, cut_rows = build(make_trainer)
    states = {}

    def save_and_leave(trainer):
        states.update(through_a_file(trainer.capture()))
        trainer.terminate()

    within = Events.ITERATION_COMPLETED(once=cut_at)
    event = within if cut_at % 5 else Events.EPOCH_COMPLETED(once=cut_at // 5)
    cut.add_event_handler(event, save_and_leave, phase=Phase.SAVE)
    torch.manual_seed(5)
    cut.fit(ResumableLoader(), 4)

    resumed, restored, resumed_rows = build(make_trainer, seed=9)
    resumed.restore(states)
    resumed.fit(ResumableLoader(), 4)
    assert_equal(everything(straight), everything(resumed))
    assert_equal(averaged(straight, whole), averaged(resumed, restored))
    assert cut_rows + resumed_rows == rows


def test_a_restored_average_can_be_used_without_any_training(trained, make_trainer):
    trainer, swa = trained
    states = through_a_file(trainer.capture())
    other, restored, _ = build(make_trainer, seed=9)
    other.restore(states)
    assert_equal(averaged(other, restored), averaged(trainer, swa))


def test_the_restored_average_is_a_copy(trained, make_trainer):
    _, swa = trained
    state = swa.state_dict()
    _, other, _ = build(make_trainer)
    other.load_state_dict(state)
    other._average["body.0.weight"].zero_()
    assert float(state["average"]["body.0.weight"].abs().max()) > 0


def test_it_is_saved_with_a_checkpoint(make_trainer, loader):
    trainer, _, _ = build(make_trainer)
    trainer.attach(Checkpoint(monitor=None, save_top_k=0, save_best=False))
    trainer.fit(loader, 2)
    saved = torch.load(trainer.run_dir / "checkpoints" / "last.pt", weights_only=True)
    assert saved["states"]["swa"]["averaged"] == 1


def test_the_average_of_another_model_is_refused(trained, make_trainer):
    _, swa = trained
    state = swa.state_dict()
    _, other, _ = build(make_trainer)
    average = {**state["average"], "head.weight": torch.zeros(3, 3)}
    with pytest.raises(ValueError, match=r"head.weight: expected shape \[2, 8\]"):
        other.load_state_dict({**state, "average": average})
    del average["head.weight"]
    with pytest.raises(ValueError, match=r"head.weight: .* found none"):
        other.load_state_dict({**state, "average": average})
    with pytest.raises(ValueError, match="tail: expected shape none"):
        other.load_state_dict({**state, "statistics": {"tail": torch.zeros(1)}})


def test_the_state_cannot_be_taken_while_it_is_in_the_model(trained):
    _, swa = trained
    with swa.averaged_weights(), pytest.raises(RuntimeError, match="leave their context first"):
        swa.state_dict()


@pytest.mark.parametrize(
    "settings", [{"start_epoch": 0}, {"every_epochs": 0}, {"start_epoch": 1.5}]
)
def test_a_setting_out_of_range_is_refused(settings):
    with pytest.raises(UsageError, match=r"swa\.\w+: a whole number at least 1"):
        SWA(**settings)


@pytest.mark.parametrize(
    "handler", [SWA(start_epoch=9), EarlyStopping("train/loss", start_epoch=9)]
)
def test_a_start_after_the_run_is_said(make_trainer, loader, handler):
    trainer, told = make_trainer(), []
    trainer.attach(handler)
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: told.append(t.state.notice["event"]))
    trainer.fit(loader, max_epochs=2)
    assert told.count("notice") == 1


def test_the_last_quarter_is_averaged_by_default():
    assert SWA().first_epoch(max_epochs=20) == 16
