from __future__ import annotations

import pytest
from ignite.engine import Events

from engine.events import OrderedEngine, Phase, TrainEvents, in_phase


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


def test_handlers_run_in_their_declared_phase_not_in_the_order_of_attaching(engine):
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


def test_attaching_while_the_event_fires_runs_no_handler_twice(engine):
    seen: list[str] = []

    def attach_another() -> None:
        seen.append("first")
        engine.add_event_handler(Events.STARTED, lambda: seen.append("late"), phase=Phase.PREPARE)

    engine.add_event_handler(Events.STARTED, attach_another)
    engine.add_event_handler(Events.STARTED, lambda: seen.append("second"))
    engine.run([0], max_epochs=1)
    assert seen == ["first", "second"]


def test_a_user_function_at_gradients_ready_comes_after_clipping_and_before_recording():
    assert Phase.GRADIENTS < Phase.USER < Phase.RECORD < Phase.SAVE
