"""What a person watching the terminal wants to know."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ignite.engine import Events

from engine.errors import UsageError, check_whole
from engine.events import Phase, TrainEvents
from engine.optimisers import learning_rate

if TYPE_CHECKING:
    from engine.trainer import Trainer

LOSSES = ("train/loss", "val/loss")
# On a terminal, how often the line of the running epoch is drawn anew, in seconds.
REDRAW_SECONDS = 0.2
CLEAR_LINE = "\r\x1b[K"
# Beyond these a number is written with an exponent.
SMALLEST_PLAIN, LARGEST_PLAIN = 1e-3, 1e4


class Progress:
    """Prints a line after an epoch, and what else happens that a person should know.

    Such as::

        epoch  3/40  train loss 0.512  val loss 0.498  val auroc 0.871  lr 2.9e-04  4.1 s

    On a terminal the running epoch has a line of its own that counts the batches; elsewhere
    (a file, a pipe) there is plain text only, and nothing at all is done in a step. No number
    is fetched from the device before the epoch is over.

    Args:
        every: Print each so many epochs; the last epoch of the budget is always printed.
        metrics: Which to print; None for the losses and those that some handler monitors.
        quiet: Notices that are not printed, by event.

    Raises:
        UsageError: ``every`` is less than 1, or ``metrics`` is no list of names.
    """

    phase = Phase.RECORD
    first_process_only = True

    def __init__(
        self,
        every: int = 1,
        metrics: Sequence[str] | None = None,
        quiet: Sequence[str] = ("checkpoint_saved", "step"),
    ) -> None:
        self.every = check_whole("progress.every", every)
        for name, value in (("metrics", metrics), ("quiet", quiet)):
            if isinstance(value, str):
                raise UsageError(f"progress.{name} must be a list of names, not '{value}'")
        self.metrics = None if metrics is None else tuple(metrics)
        self.quiet = frozenset(quiet)
        self._epoch_began = 0.0
        self._next_draw = 0.0
        self._drawn = False

    def attach(self, trainer: Trainer) -> None:
        """Listen to epochs and notices, and to iterations where someone watches."""
        for name in self.metrics or ():
            trainer.monitor_metric(name, "progress")
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(TrainEvents.NOTICE, self.tell)
        if sys.stdout.isatty():
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self.draw)
            trainer.add_event_handler(Events.COMPLETED, self.close)

    def start_epoch(self) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()
        self._next_draw = self._epoch_began + REDRAW_SECONDS

    def __call__(self, trainer: Trainer) -> None:
        """Print the epoch that is over."""
        state = trainer.state
        if state.epoch % self.every and state.epoch != state.max_epochs:
            return
        shown = self.metrics
        if shown is None:
            shown = tuple(dict.fromkeys((*LOSSES, *trainer.monitored_metrics)))
        parts = [
            _epoch_of(state),
            *(
                f"{name.replace('/', ' ')} {_number(state.metrics[name])}"
                for name in shown
                if name in state.metrics
            ),
            f"lr {state.metrics.get('lr', learning_rate(trainer.optimizer)):.1e}",
            _duration(time.perf_counter() - self._epoch_began),
        ]
        self._print("  ".join(parts))

    def tell(self, trainer: Trainer) -> None:
        """Print a notice: its ``message`` where it has one, else what happened and the details."""
        notice: dict[str, Any] = dict(trainer.state.notice)
        event = notice.pop("event")
        if event in self.quiet:
            return
        happened = event.replace("_", " ")
        details = (f"{name.replace('_', ' ')} {_plain(value)}" for name, value in notice.items())
        line = ": ".join(part for part in (happened, ", ".join(details)) if part)
        self._print(notice.get("message", line))

    def draw(self, trainer: Trainer) -> None:
        """Draw the running epoch's line, at most every ``REDRAW_SECONDS``."""
        now = time.perf_counter()
        if now < self._next_draw:
            return
        self._next_draw = now + REDRAW_SECONDS
        state = trainer.state
        done = (state.iteration - 1) % state.epoch_length + 1
        line = f"{_epoch_of(state)}  {done}/{state.epoch_length} batches"
        print(f"{CLEAR_LINE}{line}  {_duration(now - self._epoch_began)}", end="", flush=True)
        self._drawn = True

    def close(self) -> None:
        """Wipe the running epoch's line, where one was left."""
        if self._drawn:
            print(CLEAR_LINE, end="", flush=True)
            self._drawn = False

    def _print(self, line: str) -> None:
        self.close()
        print(line, flush=True)


def _epoch_of(state: Any) -> str:
    total = str(state.max_epochs)
    return f"epoch {state.epoch:>{len(total)}}/{total}"


def _number(value: float) -> str:
    """Short, and as wide as its like from epoch to epoch.

    Example:
        >>> _number(0.51234), _number(0.00042), _number(float("nan"))
        ('0.512', '4.2e-04', 'undefined')
    """
    if value != value:
        return "undefined"
    plain = value == 0 or SMALLEST_PLAIN <= abs(value) < LARGEST_PLAIN
    return f"{value:.3f}" if plain else f"{value:.1e}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """Seconds as a person says them.

    Example:
        >>> _duration(4.12), _duration(75.0), _duration(3720.0)
        ('4.1 s', '1 min 15 s', '1 h 02 min')
    """
    minutes, whole_seconds = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{seconds:.1f} s"
    hours, minutes_left = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes} min {whole_seconds:02d} s"
    return f"{hours} h {minutes_left:02d} min"
