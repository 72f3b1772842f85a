"""Ending a run in good order after a signal."""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from types import FrameType
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError, nearest
from engine.distributed import StopConsensus, is_main_process, world_size
from engine.events import OrderedEngine, Phase, in_phase
from engine.trainer import Trainer

# Exit status after a signal, plus its number (POSIX: "greater than 128"; all shells add it).
EXIT_BASE = 128
# The system lets no process handle these.
UNSTOPPABLE = ("SIGKILL", "SIGSTOP")
STDERR = 2
# Windows lacks some.
WANTED = ("SIGINT", "SIGTERM", "SIGHUP", "SIGUSR1")
ANSWERED = tuple(name for name in WANTED if name in signal.Signals.__members__)
# A closed terminal: the kernel and the shell may each send it.
HANG_UP = getattr(signal, "SIGHUP", None)
# The same signal may reach a process twice, from a scheduler that signals a whole job and from the
# launcher that passes it on: within this time it is not a second one.
SAME_SIGNAL_S = 2.0


class GracefulShutdown:
    """Handles a signal: the optimizer step is finished, the run saved and ended.

    A whole accumulation is finished, so that the checkpoint of the run's end (``Events.TERMINATE``)
    continues bit by bit. A validation is cut off after its batch, if its evaluator is watched: its
    epoch stays open, and the resumed run measures it again. A second signal ends the process at
    once, without saving. SIGHUP (a closed terminal) stays ignored under ``nohup``. Of several ranks
    one signalled rank is enough: about once a second all agree whether to stop.

    The former signal handlers are restored when the run has ended, or by :meth:`close`, to be
    called after an exception. Outside of the main thread this handler only announces so. Announces
    ``interrupted``. ``exit_code`` is 128 and the signal's number, None without a signal.
    """

    phase = Phase.PREPARE

    def __init__(self, signals: Sequence[str] = ANSWERED) -> None:
        known = [name for name in signal.Signals.__members__ if name not in UNSTOPPABLE]
        if isinstance(signals, str):
            raise UsageError(f"graceful_shutdown.signals must be a list of names, not '{signals}'")
        for name in signals:
            if name not in known:
                refused = f"no signal '{name}' can be answered{nearest(name, known)}"
                raise UsageError(f"graceful_shutdown.signals: {refused}")
        self.signals = tuple(signal.Signals[name] for name in signals)
        self.exit_code: int | None = None
        self._trainer: Trainer
        self._evaluators: list[OrderedEngine] = []
        self._former: dict[signal.Signals, Any] = {}
        # A run within another one: the outer run's handler has the signals and passes them on.
        self._leaders: list[tuple[GracefulShutdown, signal.Signals]] = []
        self._followers: dict[signal.Signals, list[GracefulShutdown]] = {}
        self._process = os.getpid()
        self._heard: int | None = None  # a signal's number, before all ranks know it
        self._heard_at = 0.0
        self._several, self._prints = False, True
        self._consensus: dict[OrderedEngine, StopConsensus] = {}

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end; nothing is done in a step."""
        self._trainer = trainer
        trainer.add_event_handler(Events.STARTED, self.install)
        trainer.add_event_handler(Events.COMPLETED, self.tell)
        trainer.add_event_handler(Events.COMPLETED, self.close, phase=Phase.REPORT)

    def watch(self, evaluator: OrderedEngine) -> None:
        """Stop this evaluator's run too, after its batch."""
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
        self._several, self._prints = world_size() > 1, is_main_process()
        for number in self.signals:
            if number == HANG_UP and signal.getsignal(number) is signal.SIG_IGN:
                continue
            leader = getattr(signal.getsignal(number), "__self__", None)
            if leader is self:
                continue  # still installed after an exception
            if isinstance(leader, GracefulShutdown):
                leader._followers.setdefault(number, []).append(self)
                self._leaders.append((leader, number))
                if leader._heard is not None:
                    self._hear(number)
            else:
                self._former[number] = signal.signal(number, self._answer)
        if self._several:
            self._start_consensus(trainer)

    def close(self) -> None:
        """Restore the former signal handlers; call it where a run ends in an exception."""
        while self._leaders:
            leader, number = self._leaders.pop()
            leader._followers[number].remove(self)
        while self._former:
            number, former = self._former.popitem()
            # None: a handler that was not installed from Python.
            signal.signal(number, signal.SIG_DFL if former is None else former)

    @in_phase(Phase.DECIDE)
    def tell(self, trainer: Trainer) -> None:
        """Announce why the run ends, after its checkpoint is saved."""
        if self.exit_code is None and trainer in self._consensus:
            # A signal since the last consensus.
            self._act_on(self._consensus[trainer].ask(trainer.state.iteration, self._heard or 0))
        announced = any(leader._trainer is trainer for leader, _ in self._leaders)
        if self.exit_code is None or announced:
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
            return  # a process that was just forked to load data
        if self._heard is not None:
            may_come_twice = self._several or number == HANG_UP == self._heard
            if may_come_twice and time.monotonic() - self._heard_at < SAME_SIGNAL_S:
                return
            _leave_at_once(number)
        # The interrupted code may be half done: only set flags, and write past Python's buffers.
        for each in (self, *self._followers.get(signal.Signals(number), ())):
            each._hear(number)
        if not self._prints:
            return
        name = signal.Signals(number).name
        line = f"\n{name}: ending after this optimizer step; a second signal leaves at once\n"
        with contextlib.suppress(OSError):
            os.write(STDERR, line.encode())

    def _hear(self, number: int) -> None:
        self._heard, self._heard_at = number, time.monotonic()
        if not self._several:  # else all ranks have to know first
            self._note(number)

    def _note(self, number: int) -> None:
        self.exit_code = EXIT_BASE + number
        for engine in (self._trainer, *self._evaluators):
            engine.should_terminate = True

    @property
    def _told_to_stop(self) -> bool:
        return self.exit_code is not None and bool(self._former or self._leaders)

    def _start_consensus(self, engine: OrderedEngine, last: int | None = None) -> None:
        """Start to exchange signals among all ranks, until this engine's run ends."""
        if engine not in self._consensus:
            self._consensus[engine] = StopConsensus()
            engine.add_event_handler(Events.ITERATION_COMPLETED, self._ask_where_due)
        consensus = self._consensus[engine]
        self._act_on(consensus.begin(engine.state.iteration, self._heard or 0, last))

    def _ask_where_due(self, engine: OrderedEngine) -> None:
        consensus = self._consensus[engine]
        if engine.state.iteration == consensus.due and world_size() > 1:
            self._act_on(consensus.ask(engine.state.iteration, self._heard or 0))

    def _act_on(self, number: int) -> None:
        if number:
            if self._heard is None:  # from another rank
                self._heard, self._heard_at = number, time.monotonic()
            self._note(number)

    def _stop_before_it_begins(self, evaluator: OrderedEngine) -> None:
        if self._trainer in self._consensus and world_size() > 1:
            # Ranks may have different numbers of batches here.
            self._start_consensus(evaluator, evaluator.state.epoch_length)
        if self._told_to_stop:
            evaluator.terminate()

    def _leave_epoch_open(self) -> None:
        if self._told_to_stop:
            self._trainer.leave_epoch_open()


def _leave_at_once(number: int) -> None:
    """End the process; in an interactive session only the running command."""
    if hasattr(sys, "ps1"):
        raise KeyboardInterrupt
    os._exit(EXIT_BASE + number)
