"""Console progress."""

import time
from collections.abc import Sequence
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError
from datasets.specs import require_whole
from engine.events import Phase, TrainEvents
from engine.optim import learning_rate
from engine.reporting import SHORT_DIGITS, figure_text, safe_stdout
from engine.trainer import Trainer

LOSSES = ("train/loss", "val/loss")
# Between two drawings of the running epoch's line on a terminal, in seconds.
REDRAW_SECONDS = 0.2
CLEAR_LINE = "\r\x1b[K"


class Progress:
    """Prints a line after each epoch, and the notices of other handlers.

    For example::

        epoch  3/40  train loss 0.512  val loss 0.498  val auroc 0.871  lr 2.9e-04  4.1 s

    On a terminal the running epoch has a line that counts the batches; elsewhere (a file, a pipe)
    nothing is done in a step. Output errors do not stop the training. The last epoch of the budget
    is always printed. ``metrics`` are by default the losses and the monitored metrics; ``quiet``
    are events of notices that are not printed.
    """

    phase = Phase.RECORD
    first_process_only = True

    def __init__(
        self,
        every: int = 1,
        metrics: Sequence[str] | None = None,
        quiet: Sequence[str] = ("checkpoint_saved", "step"),
    ) -> None:
        self.every = require_whole("progress.every", every, 1)
        for name, value in (("metrics", metrics), ("quiet", quiet)):
            if isinstance(value, str):
                raise UsageError(f"progress.{name} must be a list of names, not '{value}'")
        self.metrics = None if metrics is None else tuple(metrics)
        self.quiet = frozenset(quiet)
        self._epoch_began = 0.0
        self._next_draw = 0.0
        self._drawn = False
        self._held: list[str] | None = None  # notices, until the epoch's line is printed

    def attach(self, trainer: Trainer) -> None:
        """Listen to epochs and notices, and to iterations on a terminal."""
        for name in self.metrics or ():
            trainer.monitor_metric(name, "progress")
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.hold, phase=Phase.PREPARE)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(TrainEvents.LOG_EVENT, self.tell)
        trainer.add_event_handler(Events.COMPLETED, self.close)
        if safe_stdout().isatty():
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self.draw)

    def start_epoch(self, trainer: Trainer) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()
        self._next_draw = self._epoch_began + REDRAW_SECONDS
        if trainer.state.open_epoch is not None:
            self.hold()  # resumed within the end of this epoch

    def hold(self) -> None:
        """Keep notices until the epoch's line is printed."""
        self._held = []

    def __call__(self, trainer: Trainer) -> None:
        """Print an epoch's line."""
        state = trainer.state
        if state.epoch % self.every and state.epoch != state.max_epochs:
            self.close()
            return
        shown = self.metrics
        if shown is None:
            shown = tuple(dict.fromkeys((*LOSSES, *(name for _, name in trainer.monitors))))
        parts = [
            _epoch_of(state),
            *(
                f"{name.replace('/', ' ')} {figure_text(state.metrics[name], SHORT_DIGITS)}"
                for name in shown
                if name in state.metrics
            ),
            f"lr {state.metrics.get('lr', learning_rate(trainer.optimizer)):.1e}",
            _duration(time.perf_counter() - self._epoch_began),
        ]
        self._print("  ".join(parts))
        self.close()

    def tell(self, trainer: Trainer) -> None:
        """Print a notice: its ``message`` where it has one, else what happened and the details."""
        notice: dict[str, Any] = dict(trainer.state.notice)
        event = notice.pop("event")
        if event in self.quiet or notice.get("message") == "":
            return
        details = (f"{name.replace('_', ' ')} {_plain(value)}" for name, value in notice.items())
        happened = [event.replace("_", " "), ", ".join(details)]
        line = notice.get("message", ": ".join(part for part in happened if part))
        if self._held is None:
            self._print(line)
        else:
            self._held.append(line)

    def draw(self, trainer: Trainer) -> None:
        """Draw the running epoch's line, at most every ``REDRAW_SECONDS``."""
        now = time.perf_counter()
        if now < self._next_draw:
            return
        self._next_draw = now + REDRAW_SECONDS
        state = trainer.state
        done = (state.iteration - 1) % state.epoch_length + 1
        line = f"{_epoch_of(state)}  {done}/{state.epoch_length} batches"
        line = f"{CLEAR_LINE}{line}  {_duration(now - self._epoch_began)}"
        print(line, end="", file=safe_stdout(), flush=True)
        self._drawn = True

    def close(self) -> None:
        """Wipe the running epoch's line; print the notices held for another."""
        self._wipe()
        held, self._held = self._held or [], None
        for line in held:
            self._print(line)

    def _wipe(self) -> None:
        if self._drawn:
            print(CLEAR_LINE, end="", file=safe_stdout(), flush=True)
            self._drawn = False

    def _print(self, line: str) -> None:
        self._wipe()
        print(line, file=safe_stdout(), flush=True)


def _epoch_of(state: Any) -> str:
    total = str(state.max_epochs)
    return f"epoch {state.epoch:>{len(total)}}/{total}"


def _plain(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    """Seconds as text."""
    minutes, whole_seconds = divmod(round(seconds), 60)
    if minutes == 0:
        return f"{seconds:.1f} s"
    hours, minutes_left = divmod(minutes, 60)
    if hours == 0:
        return f"{minutes} min {whole_seconds:02d} s"
    return f"{hours} h {minutes_left:02d} min"
