from __future__ import annotations

import json
import warnings

import pytest
from ignite.engine import Events

from engine import TrainEvents, UsageError
from engine.checkpointing import load_checkpoint
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.profiler import Profiler

PARTS = {"get batch", "forward", "loss", "backward", "optimizer"}


def trace_of(trainer):
    text = (trainer.run_dir / "profile" / "trace.json").read_text()
    return [event["name"] for event in json.loads(text)["traceEvents"] if "name" in event]


def notices_of(trainer):
    notices = []
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice))
    return notices


@pytest.fixture(autouse=True)
def the_profiler_has_nothing_to_complain():
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def test_the_trace_holds_the_active_steps_with_their_parts_named(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Profiler(wait=3, warmup=1, active=2))
    trainer.fit(loader, 3)
    names = trace_of(trainer)
    assert names.count("forward") == names.count("optimizer") == 2
    assert set(names) >= PARTS
    table = (trainer.run_dir / "profile" / "top_operations.txt").read_text()
    assert "aten::addmm" in table
    assert not list((trainer.run_dir / "profile").glob(".*"))


def test_an_accumulation_window_is_one_step(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Profiler(wait=0, warmup=1, active=1), Accumulation(2))
    trainer.fit(loader, 1)
    names = trace_of(trainer)
    assert (names.count("forward"), names.count("optimizer")) == (2, 1)


def test_afterwards_nothing_listens_to_steps(make_trainer, loader):
    trainer, listening = make_trainer(), []
    before = {event: len(handlers) for event, handlers in trainer._event_handlers.items()}
    trainer.attach(Profiler(wait=1, warmup=1, active=1))
    trainer.fit(loader, 1)
    for event, handlers in trainer._event_handlers.items():
        if len(handlers) > before.get(event, 0):
            listening.append(event)
    assert set(listening) == {Events.STARTED, Events.COMPLETED}


def test_it_says_where_the_files_are(make_trainer, loader):
    trainer = make_trainer()
    notices = notices_of(trainer)
    trainer.attach(Profiler())
    trainer.fit(loader, 3)
    (notice,) = notices
    assert notice["event"] == "profile_written"
    assert notice["trace"] == str(trainer.run_dir / "profile" / "trace.json")
    assert "perfetto" in notice["message"]


def test_a_run_that_is_shorter_writes_what_it_has(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Profiler(wait=2, warmup=1, active=50))
    trainer.fit(loader, 1)
    assert trace_of(trainer).count("optimizer") == 2


def test_a_run_that_is_too_short_to_profile_writes_nothing(make_trainer, loader):
    trainer = make_trainer()
    trainer.attach(Profiler(wait=50))
    trainer.fit(loader, 1)
    assert not (trainer.run_dir / "profile").exists()


@pytest.mark.parametrize(("cut_after", "again"), [(1, True), (2, False)])
def test_a_resumed_run_profiles_only_if_no_profile_was_written(
    make_trainer, loader, cut_after, again
):
    def build():
        trainer = make_trainer()
        trainer.attach(
            Checkpoint(None, save_top_k=0, save_best=False), Profiler(wait=4, warmup=2, active=2)
        )
        return trainer

    cut, resumed = build(), build()
    cut.fit(loader, cut_after)
    resumed.restore(load_checkpoint(cut.run_dir / "checkpoints" / "last.pt")["states"])
    notices = notices_of(resumed)
    resumed.fit(loader, 5)
    assert ("profile_written" in [n["event"] for n in notices]) == again


def test_an_exception_leaves_no_profiler_running(make_trainer, loader):
    trainer, profiler = make_trainer(), Profiler(wait=0, warmup=1)
    trainer.attach(profiler)

    def fail():
        raise ZeroDivisionError

    trainer.add_event_handler(TrainEvents.FORWARD_COMPLETED(once=3), fail)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(loader, 1)
    profiler.close()
    assert trace_of(trainer).count("forward") == 2
    again = make_trainer()
    again.attach(Profiler(wait=0, warmup=1, active=1))
    again.fit(loader, 1)
    assert trace_of(again).count("forward") == 1
    profiler.close()


def test_wrong_settings_are_refused(make_trainer):
    with pytest.raises(UsageError, match=r"profiler.active: a whole number at least 1"):
        Profiler(active=0)
    with pytest.raises(UsageError, match=r"profiler.wait"):
        Profiler(wait=-1)
    trainer = make_trainer()
    trainer.run_dir = None
    with pytest.raises(UsageError, match="no run_dir"):
        trainer.attach(Profiler())
