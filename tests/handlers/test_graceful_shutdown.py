from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time

import pytest
import torch
from ignite.engine import Events

from engine import EpochMetrics, Evaluator, Trainer, TrainEvents, UsageError, build_optimizer
from engine.checkpointing import load_checkpoint
from engine.losses import CrossEntropy
from engine.reporting import read_log
from handlers.accumulation import Accumulation
from handlers.checkpoint import Checkpoint
from handlers.early_stopping import EarlyStopping
from handlers.ema import EMA
from handlers.graceful_shutdown import GracefulShutdown
from handlers.lr_schedule import LRSchedule
from handlers.run_log import RunLog
from handlers.validation import Validation
from tests.forked import CONTEXT
from tests.tiny_problem import TinyLoader, TinyModel

EPOCHS, BATCHES, VAL_BATCHES = 3, 5, 3
TAKEN = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)


class DrawingLoader(TinyLoader):
    """Draws from the global streams when it is iterated, as torch's own loader does."""

    def __iter__(self):
        torch.empty((), dtype=torch.int64).random_()
        random.random()
        return super().__iter__()


class Resumable(TinyLoader):
    """Can start in the middle of an epoch."""

    def __init__(self):
        super().__init__()
        self.batch_sampler = self
        self.position = 0

    def set_epoch(self, epoch):
        self.position = 0

    def resume_at(self, epoch, position):
        self.position = position

    def __iter__(self):
        return iter(self.batches[self.position :])


class Run:
    """A run with much that can be lost, in a folder of its own."""

    def __init__(self, make_trainer, make_evaluator, folder, accumulate=1, seed=0):
        self.trainer = make_trainer(seed=seed)
        self.trainer.run_dir = folder
        folder.mkdir(exist_ok=True)
        self.evaluator = make_evaluator(self.trainer)
        self.graceful_shutdown = GracefulShutdown()
        self.graceful_shutdown.watch(self.evaluator)
        self.ema = EMA(decay=0.9)
        self.trainer.attach(
            RunLog(),
            Accumulation(accumulate),
            self.ema,
            Validation(
                self.evaluator,
                DrawingLoader(samples=12, seed=3),
                weights=self.ema.averaged_weights,
            ),
            LRSchedule("plateau", monitor="val/loss", patience=0, threshold=0.5),
            EarlyStopping("val/auroc", "max", patience=5),
            Checkpoint(monitor="val/loss", mode="min"),
            self.graceful_shutdown,
        )
        self.folder = folder

    def fit(self):
        torch.manual_seed(5)
        self.trainer.fit(Resumable(), EPOCHS)
        return self

    def resume(self):
        last = self.folder / "checkpoints" / "last.pt"
        if last.exists():
            self.trainer.restore(load_checkpoint(last)["states"])
        torch.manual_seed(99)
        self.trainer.fit(Resumable(), EPOCHS)
        return self

    def weights(self):
        return torch.cat([t.flatten().float() for t in self.trainer.model.state_dict().values()])

    def rows(self):
        """The log without its times and without how often the run was begun."""
        kept = []
        for row in read_log(self.folder / "log.jsonl"):
            if row["event"] not in ("run_started", "run_resumed"):
                kept.append({k: v for k, v in row.items() if k not in ("time", "seconds")})
        return kept

    def states(self):
        """All that would be saved, but for how long the log's times are."""
        return {k: v for k, v in self.trainer.capture().items() if k != "run_log"}


def same(one, other):
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[k], other[k]) for k in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other or (one != one and other != other)


@pytest.fixture(autouse=True)
def signals_are_as_before():
    before = [signal.getsignal(number) for number in TAKEN]
    yield
    assert [signal.getsignal(number) for number in TAKEN] == before


@pytest.fixture
def run(make_trainer, make_evaluator, tmp_path):
    def make(name, **settings):
        return Run(make_trainer, make_evaluator, tmp_path / name, **settings)

    return make


def kill_at(engine, event, count, number=signal.SIGTERM):
    """Send the process a signal when an event fires for the count-th time."""
    fired = []

    def kill():
        fired.append(1)
        if len(fired) == count:
            os.kill(os.getpid(), number)

    engine.add_event_handler(event, kill)


def test_a_signal_finishes_the_step_and_saves_the_very_moment(run):
    cut = run("cut")
    kill_at(cut.trainer, TrainEvents.FORWARD_COMPLETED, 7)
    cut.fit()
    assert cut.graceful_shutdown.exit_code == 143
    assert cut.trainer.state.iteration == cut.trainer.state.optimizer_step == 7
    saved = load_checkpoint(cut.folder / "checkpoints" / "last.pt")["states"]
    assert saved["trainer"]["iteration"] == 7
    assert same(saved["model"], dict(cut.trainer.model.state_dict()))


@pytest.fixture
def hang_up_ends():
    """SIGHUP as a terminal sets it; the test runner itself may have been started to ignore it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGUSR1])
def test_a_hang_up_and_a_schedulers_warning_stop_a_run(run, hang_up_ends, number):
    straight = run("straight").fit()
    cut = run("cut")
    kill_at(cut.trainer, Events.ITERATION_STARTED, 7, number)
    cut.fit()
    assert cut.graceful_shutdown.exit_code == 128 + number
    resumed = run("cut").resume()
    assert torch.equal(resumed.weights(), straight.weights())


def test_a_closed_terminal_may_hang_up_twice(run, hang_up_ends):
    cut = run("cut")
    for count in (7, 8):  # the second comes within the same accumulation window
        kill_at(cut.trainer, TrainEvents.BATCH_READY, count, signal.SIGHUP)
    kill_at(cut.trainer, TrainEvents.FORWARD_COMPLETED, 7, signal.SIGHUP)
    cut.fit()
    assert cut.graceful_shutdown.exit_code == 129
    assert load_checkpoint(cut.folder / "checkpoints" / "last.pt")


def test_a_hang_up_that_nohup_ignores_stays_ignored(run, hang_up_ends):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    whole = run("whole")
    kill_at(whole.trainer, Events.ITERATION_STARTED, 7, signal.SIGHUP)
    whole.fit()
    assert whole.graceful_shutdown.exit_code is None
    assert whole.trainer.state.epoch == EPOCHS
    assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN


def test_an_accumulation_window_is_finished_first(run):
    cut = run("cut", accumulate=3)
    kill_at(cut.trainer, Events.ITERATION_STARTED, 6)
    cut.fit()
    # Five batches an epoch make windows of 3 and 2: the second epoch's first closes at the eighth.
    assert cut.trainer.state.iteration == 8
    assert all(p.grad is None for p in cut.trainer.model.parameters())


@pytest.mark.parametrize(("accumulate", "iterations"), [(1, (1, 5, 8, 15)), (3, (2, 4, 5, 8, 15))])
def test_a_run_cut_in_a_batch_continues_bit_identically(run, accumulate, iterations):
    straight = run("straight", accumulate=accumulate).fit()
    for iteration in iterations:
        cut = run(f"cut-{iteration}", accumulate=accumulate)
        kill_at(cut.trainer, TrainEvents.BACKWARD_COMPLETED, iteration, signal.SIGINT)
        cut.fit()
        assert cut.graceful_shutdown.exit_code == 130
        resumed = run(f"cut-{iteration}", accumulate=accumulate, seed=9).resume()
        assert resumed.graceful_shutdown.exit_code is None
        assert same(resumed.states(), straight.states()), iteration
        assert resumed.rows() == straight.rows(), iteration


@pytest.mark.slow
@pytest.mark.parametrize("event", [Events.STARTED, Events.ITERATION_COMPLETED, Events.COMPLETED])
def test_a_run_cut_in_any_validation_continues_bit_identically(run, event):
    straight = run("straight").fit()
    batches = range(1, EPOCHS * VAL_BATCHES + 1, 2) if event == Events.ITERATION_COMPLETED else (2,)
    for number in batches:
        cut = run(f"cut-{number}")
        kill_at(cut.evaluator, event, number)
        cut.fit()
        assert cut.graceful_shutdown.exit_code == 143
        resumed = run(f"cut-{number}", seed=9).resume()
        assert torch.equal(resumed.weights(), straight.weights()), number
        assert same(resumed.states(), straight.states()), number
        assert resumed.rows() == straight.rows(), number


def test_a_validation_is_cut_after_its_batch_without_decisions(run):
    cut, seen, decided = run("cut"), [], []
    kill_at(cut.evaluator, Events.ITERATION_COMPLETED, VAL_BATCHES + 2)
    cut.evaluator.add_event_handler(Events.ITERATION_COMPLETED, lambda: seen.append(1))
    cut.trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: decided.append(1))
    cut.fit()
    assert len(seen) == VAL_BATCHES + 2
    assert len(decided) == 1  # the first epoch's
    assert cut.trainer.state.iteration == 2 * BATCHES
    assert not any(name.startswith("val/") for name in cut.trainer.state.metrics)
    assert [row["epoch"] for row in cut.rows() if row["event"] == "epoch"] == [1]
    saved = load_checkpoint(cut.folder / "checkpoints" / "last.pt")["states"]
    assert saved["checkpoint"]["best"][1] == 1
    assert same(saved["model"], dict(cut.trainer.model.state_dict()))  # the live weights are back


def test_a_run_cut_twice_in_the_same_validation_continues(run):
    straight = run("straight").fit()
    for seed in (0, 9):
        cut = run("cut", seed=seed)
        kill_at(cut.evaluator, Events.ITERATION_COMPLETED, 3 * VAL_BATCHES - 1 if not seed else 1)
        cut.fit() if not seed else cut.resume()
        assert cut.trainer.state.open_epoch is not None
    resumed = run("cut", seed=7).resume()
    assert resumed.trainer.state.epoch == EPOCHS
    assert same(resumed.states(), straight.states())
    assert resumed.rows() == straight.rows()


def test_the_same_trainer_can_go_on_in_the_same_process(run):
    straight, cut = run("straight").fit(), run("cut")
    kill_at(cut.evaluator, Events.ITERATION_COMPLETED, 2)
    kill_at(cut.trainer, Events.ITERATION_COMPLETED, 7)
    cut.fit()
    while cut.graceful_shutdown.exit_code is not None:
        cut.trainer.fit(Resumable(), EPOCHS)
    assert same(cut.states(), straight.states())


def test_the_run_says_why_it_ended(run, capfd):
    cut = run("cut")
    kill_at(cut.trainer, Events.ITERATION_COMPLETED, 7)
    cut.fit()
    rows = cut.rows()
    assert [row["event"] for row in rows[-2:]] == ["interrupted", "run_terminated"]
    assert rows[-2]["message"] == "SIGTERM ended the run in epoch 2, iteration 7"
    assert "a second signal leaves at once" in capfd.readouterr().err
    cut = run("cut-in-validation")
    kill_at(cut.evaluator, Events.ITERATION_COMPLETED, 1)
    cut.fit()
    assert "iteration 5, in its validation" in (cut.folder / "log.jsonl").read_text()


def test_an_evaluator_works_again_after_the_run_was_cut(run):
    cut = run("cut")
    kill_at(cut.evaluator, Events.ITERATION_COMPLETED, 1)
    cut.fit()
    assert "auroc" in cut.evaluator.evaluate(TinyLoader(samples=12))


def test_an_exception_leaves_no_signal_handler_behind_once_closed(make_trainer, loader):
    trainer, graceful_shutdown = make_trainer(), GracefulShutdown()
    trainer.attach(graceful_shutdown)
    before = signal.getsignal(signal.SIGINT)

    @trainer.on(Events.ITERATION_COMPLETED)
    def fail():
        assert signal.getsignal(signal.SIGINT) != before
        raise ZeroDivisionError

    try:
        with pytest.raises(ZeroDivisionError):
            trainer.fit(loader, 1)
    finally:
        graceful_shutdown.close()
    assert signal.getsignal(signal.SIGINT) == before
    graceful_shutdown.close()


def test_only_the_signals_asked_for_are_taken(make_trainer, loader):
    trainer, seen = make_trainer(), {}
    trainer.attach(GracefulShutdown(signals=["SIGUSR1"]))
    former = signal.getsignal(signal.SIGTERM)

    @trainer.on(Events.ITERATION_COMPLETED(once=2))
    def look():
        seen["term"] = signal.getsignal(signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGUSR1)

    trainer.fit(loader, 1)
    assert seen["term"] == former
    assert trainer.state.iteration == 2
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_outside_of_the_main_thread_the_run_goes_on_and_says_so(make_trainer, loader):
    trainer, graceful_shutdown, notices = make_trainer(), GracefulShutdown(), []
    trainer.attach(graceful_shutdown)
    trainer.add_event_handler(TrainEvents.LOG_EVENT, lambda t: notices.append(t.state.notice))
    thread = threading.Thread(target=trainer.fit, args=(loader, 1))
    thread.start()
    thread.join()
    assert trainer.state.epoch == 1
    assert [n["message"] for n in notices] == [
        "signals are not answered: the training runs outside of the main thread"
    ]
    assert graceful_shutdown.exit_code is None


def test_two_on_one_trainer_answer_as_one(run):
    cut, second = run("cut"), GracefulShutdown()
    cut.trainer.attach(second)
    kill_at(cut.evaluator, Events.ITERATION_COMPLETED, 2)
    cut.fit()
    assert cut.graceful_shutdown.exit_code == second.exit_code == 143
    assert cut.trainer.state.open_epoch is not None
    assert [row["event"] for row in cut.rows()].count("interrupted") == 1


@pytest.mark.parametrize("when", [Events.STARTED, Events.ITERATION_STARTED])
def test_a_signal_ends_a_run_within_a_run_and_both_are_told(make_trainer, loader, when):
    outer, inner = make_trainer(), make_trainer()
    answers = [GracefulShutdown(), GracefulShutdown()]
    for trainer, graceful_shutdown in zip((outer, inner), answers, strict=True):
        trainer.attach(graceful_shutdown)
    kill_at(inner, when, 1)
    outer.add_event_handler(Events.ITERATION_COMPLETED(once=2), lambda: inner.fit(loader, 3))
    outer.fit(loader, 3)
    assert [graceful_shutdown.exit_code for graceful_shutdown in answers] == [143, 143]
    assert (outer.state.iteration, inner.state.iteration) == (2, when == Events.ITERATION_STARTED)


def test_nothing_is_done_in_a_step(make_trainer, make_evaluator):
    trainer = make_trainer()
    evaluator, graceful_shutdown = make_evaluator(trainer), GracefulShutdown()
    listening = [
        {event: len(handlers) for event, handlers in engine._event_handlers.items()}
        for engine in (trainer, evaluator)
    ]
    trainer.attach(graceful_shutdown)
    graceful_shutdown.watch(evaluator)
    for engine, before in zip((trainer, evaluator), listening, strict=True):
        added = {
            e for e, handlers in engine._event_handlers.items() if len(handlers) > before.get(e, 0)
        }
        assert added <= {Events.STARTED, Events.COMPLETED, Events.TERMINATE}


@pytest.mark.parametrize(
    ("signals", "words"),
    [
        (["SIGTREM"], "did you mean 'SIGTERM'"),
        (["SIGKILL"], "no signal 'SIGKILL' can be answered"),
        ("SIGTERM", "a list of names"),
    ],
)
def test_what_is_no_signal_is_refused(signals, words):
    with pytest.raises(UsageError, match=words):
        GracefulShutdown(signals=signals)


def run_in_a_process(folder, slow, ready, stuck):
    """The life of a run's process: begin or resume, dawdle where told, leave with its code."""

    def make_trainer(seed):
        torch.manual_seed(seed)
        model = TinyModel()
        optimizer = build_optimizer(model, "adamw", lr=0.01)
        trainer = Trainer(model, optimizer, CrossEntropy(), run_dir=folder)
        EpochMetrics(prefix="train/").attach(trainer)
        trainer.provide_metrics(*EpochMetrics(prefix="train/").metric_names())
        return trainer

    def make_evaluator(trainer):
        return Evaluator(trainer.model, trainer.loss, EpochMetrics())

    def dawdle():
        ready.set()
        while stuck or cut.graceful_shutdown.exit_code is None:
            time.sleep(0.01)

    torch.set_num_threads(1)
    cut = Run(make_trainer, make_evaluator, folder, accumulate=3)
    if slow is None:
        ready.set()
    else:
        engine = {"training": cut.trainer, "validation": cut.evaluator}[slow]
        engine.add_event_handler(Events.ITERATION_STARTED(once=2), dawdle)
    try:
        begun = (folder / "checkpoints" / "last.pt").exists()
        cut.resume() if begun else cut.fit()
    finally:
        cut.graceful_shutdown.close()
    torch.save(cut.trainer.model.state_dict(), folder / "weights.pt")
    sys.exit(cut.graceful_shutdown.exit_code or 0)


@pytest.fixture(scope="module")
def start():
    """Start a run in a process of its own."""

    def start_process(folder, slow=None, stuck=False):
        ready = CONTEXT.Event()
        process = CONTEXT.Process(target=run_in_a_process, args=(folder, slow, ready, stuck))
        process.start()
        assert ready.wait(60)
        return process

    return start_process


@pytest.mark.slow
def test_signalled_ranks_exit_with_codes_and_resume_exactly(run, start, tmp_path):
    straight = run("straight", accumulate=3).fit()
    folder = tmp_path / "cut"
    for slow, number, code in (
        ("training", signal.SIGINT, 130),
        ("validation", signal.SIGTERM, 143),
        (None, None, 0),
    ):
        process = start(folder, slow)
        if number is not None:
            os.kill(process.pid, number)
        process.join(60)
        assert process.exitcode == code
    weights = torch.load(folder / "weights.pt", weights_only=True)
    assert same(dict(weights), dict(straight.trainer.model.state_dict()))
    assert [row["event"] for row in read_log(folder / "log.jsonl")].count("run_resumed") == 2


@pytest.mark.slow
def test_a_second_signal_leaves_at_once(start, tmp_path):
    process = start(tmp_path / "stuck", "training", stuck=True)
    os.kill(process.pid, signal.SIGTERM)
    process.join(0.3)
    assert process.exitcode is None
    os.kill(process.pid, signal.SIGINT)
    process.join(2)
    assert process.exitcode == 130


@pytest.mark.parametrize(
    ("case", "expected"),
    [
        # A window of two batches is finished first; five batches an epoch.
        ("second_in_training", {"iteration": 4, "open": False, "measured": 0, "code": 143}),
        # The second process has two batches to validate where the first has three.
        ("first_in_validation", {"iteration": 5, "open": True, "measured": 2, "code": 130}),
        # Here it has none at all.
        ("nothing_to_validate", {"iteration": 5, "open": True, "measured": 0, "code": 143}),
        ("both_apart", {"iteration": 2, "open": False, "measured": 0, "code": 143}),
        ("both_twice", {"iteration": 2, "open": False, "measured": 0, "code": 143}),
    ],
)
def test_two_ranks_signalled_at_different_moments_stop_together(two_processes, case, expected):
    first, second = (each[case] for each in two_processes["tests.handlers.graceful_shutdown_work"])
    assert first == second == expected


def test_a_signal_after_the_last_consensus_reaches_all_ranks(two_processes):
    for each in two_processes["tests.handlers.graceful_shutdown_work"]:
        assert each["in_the_last_moment"]["code"] == 143
        assert each["in_the_last_moment"]["iteration"] == 20
        assert each["undisturbed"]["code"] is None
