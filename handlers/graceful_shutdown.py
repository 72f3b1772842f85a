"""Ending a run in good order when it is told to stop from outside."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from datasets.errors import UsageError, nearest
from engine.distributed import StopConsensus, is_main_process, world_size
from engine.events import OrderedEngine, Phase, in_phase

if TYPE_CHECKING:
    from engine.trainer import Trainer

# What a shell says of a process that a signal ended (POSIX: "greater than 128"; all shells add it).
EXIT_BASE = 128
# The system lets no process handle these.
UNSTOPPABLE = ("SIGKILL", "SIGSTOP")
STDERR = 2
# Windows lacks some.
ANSWERED = tuple(
    name
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
    if name in signal.Signals.__members__
)
# A terminal that is closed: the kernel and the shell may each send it.
HANG_UP = getattr(signal, "SIGHUP", None)
# Of several processes one may be sent the same signal twice, by a scheduler that signals all of a
# job and by the launcher that passes it on: what comes so soon is no second one.
SAME_SIGNAL_S = 2.0


class GracefulShutdown:
    """Answers a signal: the optimizer step is finished, the run saved and ended.

    A window of accumulated batches is finished too, so that the checkpoint of the run's end
    (``Events.TERMINATE``) continues bit by bit. A validation is cut off after its batch, if its
    evaluator is watched: its epoch stays open, nothing is decided on half a measurement, and the
    resumed run measures anew. A second signal leaves at once, with what the last checkpoint holds.
    SIGHUP (the terminal is gone) stays ignored where the process was started so, as under
    ``nohup``.

    Of several processes that train together, one that is signalled is enough: about once a second
    they agree, after an iteration that all know, whether to stop there.

    The former signal handlers are back when the run has ended; :meth:`close` brings them back
    where it ended in an exception. Only the main thread can handle signals: in another one this
    handler does nothing, and says so. Announces ``interrupted``.

    Args:
        signals: Their names.

    Raises:
        UsageError: A name is no signal, or none that a process can answer.

    Attributes:
        exit_code: 128 and the signal's number (143 after SIGTERM, 130 after SIGINT), None where
            no signal came; what the process should leave with.

    Example::

        graceful_shutdown = GracefulShutdown()
        graceful_shutdown.watch(evaluator)
        trainer.attach(graceful_shutdown)
        try:
            trainer.fit(loader, max_epochs=40)
        finally:
            graceful_shutdown.close()
        if graceful_shutdown.exit_code is not None:
            sys.exit(graceful_shutdown.exit_code)
    """

    phase = Phase.PREPARE

    def __init__(self, signals: Sequence[str] = ANSWERED) -> None:
        known = [name for name in signal.Signals.__members__ if name not in UNSTOPPABLE]
        if isinstance(signals, str):
            raise UsageError(f"graceful_shutdown.signals must be a list of names, not '{signals}'")
        for name in signals:
            if name not in known:
                raise UsageError(
                    f"graceful_shutdown.signals: no signal '{name}' can be answered"
                    f"{nearest(name, known)}"
                )
        self.signals = tuple(signal.Signals[name] for name in signals)
        self.exit_code: int | None = None
        self._trainer: Trainer
        self._evaluators: list[OrderedEngine] = []
        self._former: dict[signal.Signals, Any] = {}
        # Where a run begins within another's, the other's object has the signals and passes them.
        self._leaders: list[tuple[GracefulShutdown, signal.Signals]] = []
        self._followers: dict[signal.Signals, list[GracefulShutdown]] = {}
        self._process = os.getpid()
        self._heard: int | None = None  # a signal's number, before it is known to all processes
        self._heard_at = 0.0
        self._several, self._speaks = False, True
        self._roll_calls: dict[OrderedEngine, StopConsensus] = {}

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end; nothing is done in a step."""
        self._trainer = trainer
        trainer.add_event_handler(Events.STARTED, self.install)
        trainer.add_event_handler(Events.COMPLETED, self.tell)
        trainer.add_event_handler(Events.COMPLETED, self.close, phase=Phase.REPORT)

    def watch(self, evaluator: OrderedEngine) -> None:
        """Have a signal stop this evaluator's run, too, after its batch."""
        self._evaluators.append(evaluator)
        evaluator.add_event_handler(Events.STARTED, self._stop_before_it_begins)
        evaluator.add_event_handler(Events.TERMINATE, self._leave_epoch_open)

    def install(self, trainer: Trainer) -> None:
        """Take over the signals."""
        self.exit_code = self._heard = None
        if trainer.should_terminate:  # a finished run: nothing will be trained
            return
        if threading.current_thread() is not threading.main_thread():
            message = "signals are not answered: the training runs outside of the main thread"
            trainer.log_event("notice", message=message)
            return
        self._process = os.getpid()
        self._several, self._speaks = world_size() > 1, is_main_process()
        for number in self.signals:
            if number == HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            leader = getattr(signal.getsignal(number), "__self__", None)
            if leader is self:
                continue  # it is here still, after a run that ended in an exception
            if isinstance(leader, GracefulShutdown):
                leader._followers.setdefault(number, []).append(self)
                self._leaders.append((leader, number))
                if leader._heard is not None:
                    self._hear(number)
            else:
                self._former[number] = signal.signal(number, self._answer)
        if self._several:
            self._call_roll(trainer)

    def close(self) -> None:
        """Bring the former signal handlers back; to be called where a run ends in an exception."""
        while self._leaders:
            leader, number = self._leaders.pop()
            leader._followers[number].remove(self)
        while self._former:
            number, former = self._former.popitem()
            # None stands for a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if former is None else former)

    @in_phase(Phase.DECIDE)
    def tell(self, trainer: Trainer) -> None:
        """Say why the run ends: after its checkpoint is saved, which a resumed run goes on from."""
        if self.exit_code is None and trainer in self._roll_calls:
            # What was heard since the last call.
            self._act_on(self._roll_calls[trainer].ask(trainer.state.iteration, self._heard or 0))
        told_already = any(leader._trainer is trainer for leader, _ in self._leaders)
        if self.exit_code is None or told_already:
            return
        state, name = trainer.state, signal.Signals(self.exit_code - EXIT_BASE).name
        where = f"epoch {state.epoch}, iteration {state.iteration}"
        if state.open_epoch is not None:
            where += ", in its validation"
        trainer.log_event(
            "interrupted",
            signal=name,
            epoch=state.epoch,
            iteration=state.iteration,
            message=f"{name} ended the run in {where}",
        )

    def _answer(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a process that was just forked to load data: the run's own one answers
        if self._heard is not None:
            may_come_twice = self._several or number == HANG_UP == self._heard
            if may_come_twice and time.monotonic() - self._heard_at < SAME_SIGNAL_S:
                return
            _leave_at_once(number)
        # Whatever was interrupted here may be half done: only flags are set, and the line is
        # written past Python's buffers.
        for each in (self, *self._followers.get(signal.Signals(number), ())):
            each._hear(number)
        if not self._speaks:
            return
        name = signal.Signals(number).name
        line = f"\n{name}: ending after this optimizer step; a second signal leaves at once\n"
        with contextlib.suppress(OSError):
            os.write(STDERR, line.encode())

    def _hear(self, number: int) -> None:
        self._heard, self._heard_at = number, time.monotonic()
        if not self._several:  # else the others have to know first
            self._note(number)

    def _note(self, number: int) -> None:
        self.exit_code = EXIT_BASE + number
        for engine in (self._trainer, *self._evaluators):
            engine.should_terminate = True

    @property
    def _told_to_stop(self) -> bool:
        return self.exit_code is not None and bool(self._former or self._leaders)

    def _call_roll(self, engine: OrderedEngine, last: int | None = None) -> None:
        """Ask all processes for signals, now and from now on, until this engine's run ends."""
        if engine not in self._roll_calls:
            self._roll_calls[engine] = StopConsensus()
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._call_where_due)
        roll_call = self._roll_calls[engine]
        self._act_on(roll_call.begin(engine.state.iteration, self._heard or 0, last))

    def _call_where_due(self, engine: OrderedEngine) -> None:
        roll_call = self._roll_calls[engine]
        if engine.state.iteration == roll_call.due and world_size() > 1:
            self._act_on(roll_call.ask(engine.state.iteration, self._heard or 0))

    def _act_on(self, number: int) -> None:
        if number:
            if self._heard is None:  # from another process
                self._heard, self._heard_at = number, time.monotonic()
            self._note(number)

    def _stop_before_it_begins(self, evaluator: OrderedEngine) -> None:
        if self._trainer in self._roll_calls and world_size() > 1:
            # Here processes may have different numbers of batches.
            self._call_roll(evaluator, evaluator.state.epoch_length)
        if self._told_to_stop:
            evaluator.terminate()

    def _leave_epoch_open(self) -> None:
        if self._told_to_stop:
            self._trainer.leave_epoch_open()


def _leave_at_once(number: int) -> None:
    """End the process where it stands; in an interactive session only what it is doing."""
    if hasattr(sys, "ps1"):
        raise KeyboardInterrupt
    os._exit(EXIT_BASE + number)
