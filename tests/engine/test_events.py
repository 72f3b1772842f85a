from __future__ import annotations

import pytest
import torch
from ignite.engine import Engine, Events

from engine.events import OrderedEngine, Phase, ResumableEngine, TrainEvents, in_phase


@pytest.fixture
def engine() -> OrderedEngine:
    engine = OrderedEngine(lambda engine, batch: None)
    engine.register_events(*TrainEvents, event_to_attr=dict.fromkeys(TrainEvents, "iteration"))
    return engine


class Declares:
    phase = Phase.SAVE

    def __init__(self, seen: list[str]) -> None:
        self.seen = seen

    def __call__(self) -> None:
        self.seen.append("save")

    @in_phase(Phase.PREPARE)
    def early(self) -> None:
        self.seen.append("prepare")


def test_handlers_run_in_the_order_of_their_phases(engine):
    seen: list[str] = []
    handler = Declares(seen)
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler)
    engine.add_event_handler(Events.EPOCH_COMPLETED, lambda: seen.append("user"))
    engine.add_event_handler(Events.EPOCH_COMPLETED, handler.early)
    engine.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: seen.append("guard"), phase=Phase.GUARD
    )
    engine.run([0], max_epochs=1)
    assert seen == ["prepare", "guard", "user", "save"]


def test_equal_phases_keep_the_order_of_attaching(engine):
    seen: list[int] = []
    for number in range(5):
        engine.add_event_handler(Events.STARTED, lambda _, n=number: seen.append(n))
    engine.run([0], max_epochs=1)
    assert seen == [0, 1, 2, 3, 4]


def test_a_filtered_method_keeps_its_phase_and_can_be_removed(engine):
    seen: list[str] = []
    handler = Declares(seen)
    engine.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append("user"))
    handle = engine.add_event_handler(Events.ITERATION_COMPLETED(every=2), handler.early)
    engine.run([0, 1], max_epochs=1)
    assert seen == ["user", "prepare", "user"]
    handle.remove()
    engine.run([0, 1], max_epochs=1)
    assert seen.count("prepare") == 1


def test_joined_events_and_the_decorator_form_work(engine):
    seen: list[str] = []

    @engine.on(Events.STARTED | Events.COMPLETED)
    def note() -> None:
        seen.append(engine.last_event_name.name)

    engine.run([0], max_epochs=1)
    assert seen == ["STARTED", "COMPLETED"]


def test_an_unknown_event_is_named(engine):
    with pytest.raises(ValueError, match="EPOCH_DONE"):
        engine.add_event_handler("EPOCH_DONE", print)


def test_attaching_while_the_event_fires_runs_no_handler_twice(engine):
    seen: list[str] = []

    def attach_another() -> None:
        seen.append("first")
        engine.add_event_handler(Events.STARTED, lambda: seen.append("late"), phase=Phase.PREPARE)

    engine.add_event_handler(Events.STARTED, attach_another)
    engine.add_event_handler(Events.STARTED, lambda: seen.append("second"))
    engine.run([0], max_epochs=1)
    assert seen == ["first", "second"]


def test_user_functions_run_between_clipping_and_recording():
    assert Phase.GRADIENTS < Phase.USER < Phase.RECORD < Phase.SAVE


def listen(trainer, calls, cut_in_epoch=None):
    """Handlers before and after one that may be cut, of every kind that can be attached."""

    class Kept:
        phase = Phase.PREPARE

        def __call__(self, engine):
            calls.append(("object", engine.state.epoch))

        def method(self):
            calls.append(("method", trainer.state.epoch))

    def long(engine):
        if engine.state.epoch == cut_in_epoch:
            torch.rand(1)
            engine.leave_epoch_open()
        else:
            calls.append(("long", engine.state.epoch))

    kept, completed = Kept(), Events.EPOCH_COMPLETED
    trainer.add_event_handler(completed, kept)
    trainer.add_event_handler(completed, kept.method, phase=Phase.UPDATE)
    trainer.add_event_handler(completed(every=2), kept.method)
    trainer.add_event_handler(completed, long, phase=Phase.MEASURE)
    trainer.add_event_handler(completed, lambda: calls.append(("after", trainer.state.epoch)))
    for event in (Events.EPOCH_STARTED, Events.TERMINATE, Events.COMPLETED):
        trainer.add_event_handler(event, lambda _, e=event: calls.append((e.name, None)))
    trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda: calls.append(("batch", trainer.state.iteration))
    )


def epochs_end(epoch):
    return [("object", epoch), *[("method", epoch)] * (2 - epoch % 2), ("long", epoch)]


def test_the_run_ends_after_the_handler_that_was_cut(make_trainer, loader):
    calls: list[tuple[str, int | None]] = []
    trainer = make_trainer()
    listen(trainer, calls, cut_in_epoch=2)
    trainer.fit(loader, 3)
    assert calls[-5:] == [*epochs_end(2)[:-1], ("TERMINATE", None), ("COMPLETED", None)]
    assert ("after", 2) not in calls
    assert trainer.state.iteration == 10
    assert trainer.epochs_done() == 1


def test_it_resumes_with_that_handler_and_repeats_no_batch(make_trainer, loader):
    for last_epoch, follow in ((2, []), (3, [("EPOCH_STARTED", None), ("batch", 11)])):
        calls: list[tuple[str, int | None]] = []
        cut, resumed = make_trainer(), make_trainer(seed=9)
        listen(cut, [], cut_in_epoch=2)
        cut.fit(loader, last_epoch)
        resumed.restore(cut.capture())
        listen(resumed, calls)
        resumed.fit(loader, last_epoch)
        assert calls[:3] == [("EPOCH_STARTED", None), ("long", 2), ("after", 2)]
        assert calls[3:5] == (follow or [("COMPLETED", None)])
        assert resumed.state.epoch == last_epoch
        assert resumed.state.open_epoch is None


def test_a_handler_that_is_new_when_the_run_continues_runs_too(make_trainer, loader):
    cut, resumed, calls = make_trainer(), make_trainer(), []
    listen(cut, [], cut_in_epoch=1)
    cut.fit(loader, 1)
    resumed.restore(cut.capture())
    resumed.add_event_handler(
        Events.EPOCH_COMPLETED, lambda: calls.append("early"), phase=Phase.PREPARE
    )
    listen(resumed, calls)
    resumed.fit(loader, 1)
    assert calls[:4] == [("EPOCH_STARTED", None), "early", ("long", 1), ("after", 1)]


def test_training_ends_the_same_as_if_it_had_not_been_cut(make_trainer, loader):
    straight, cut, resumed = make_trainer(), make_trainer(), make_trainer(seed=9)
    torch.manual_seed(5)
    straight.fit(loader, 3)
    torch.manual_seed(5)
    # Before the epoch's own metrics are computed, which empties what they are computed from.
    cut.add_event_handler(Events.EPOCH_COMPLETED, cut.leave_epoch_open, phase=Phase.PREPARE)
    cut.fit(loader, 3)
    resumed.restore(cut.capture())
    resumed.add_event_handler(Events.EPOCH_STARTED(once=1), lambda: torch.rand(1))
    resumed.fit(loader, 3)
    assert straight.state.metrics == resumed.state.metrics
    assert all(
        torch.equal(one, other)
        for one, other in zip(
            straight.model.state_dict().values(), resumed.model.state_dict().values(), strict=True
        )
    )


def test_said_elsewhere_it_changes_nothing(make_trainer, loader):
    trainer = make_trainer()
    trainer.add_event_handler(Events.ITERATION_COMPLETED, trainer.leave_epoch_open)
    trainer.fit(loader, 2)
    assert trainer.state.iteration == 10


# -- Ignite's private names -------------------------------------------------------------------

OVERRIDDEN = (
    "_fire_event",
    "_is_done",
    "_maybe_terminate_legacy",
    "_run_once_on_dataset_legacy",
    "_setup_engine",
)


@pytest.mark.parametrize("name", OVERRIDDEN)
def test_ignite_calls_what_is_overridden(name, monkeypatch, make_trainer, loader):
    assert name in vars(Engine)
    owner = next(c for c in ResumableEngine.__mro__ if name in vars(c))
    assert owner is not Engine
    calls, ours = [], vars(owner)[name]
    function = getattr(ours, "__func__", ours)

    def counted(*args, **kwargs):
        calls.append(name)
        return function(*args, **kwargs)

    is_static = isinstance(ours, staticmethod)
    monkeypatch.setattr(owner, name, staticmethod(counted) if is_static else counted)
    make_trainer().fit(loader, 1)
    assert calls


def test_ignites_table_of_handlers_is_where_it_is_read(engine):
    def handler():
        pass

    Engine.add_event_handler(engine, Events.STARTED, handler)
    assert [entry[0] for entry in engine._event_handlers[Events.STARTED]] == [handler]


def test_ignite_looks_up_a_filtered_handler_by_its_parent(engine):
    handler = Declares([]).early
    engine.add_event_handler(Events.STARTED(once=1), handler)
    assert engine.has_event_handler(handler, Events.STARTED)
    (registered, _, _), *_ = engine._event_handlers[Events.STARTED]
    registered._parent = lambda: None
    assert not engine.has_event_handler(handler, Events.STARTED)


def test_an_event_logs_nothing(engine, caplog):
    with caplog.at_level("DEBUG"):
        engine.fire_event(Events.STARTED)
    assert "Firing handlers" not in caplog.text
    with caplog.at_level("DEBUG"):
        Engine._fire_event(engine, Events.STARTED)
    assert "Firing handlers" in caplog.text
