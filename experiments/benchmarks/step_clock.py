"""The time of a training step, measured without waiting for the device in between."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events

from engine.events import Phase

if TYPE_CHECKING:
    from engine.trainer import Trainer
    from experiments.benchmarks.step_profile import StepProfile

MS_PER_S = 1000.0
# A GPU's clock is asked once in so many steps; a CPU's after each.
WINDOW = {"cpu": 1, "cuda": 10}
# Fewer have no median worth the name.
LEAST_WINDOWS = 3


class StepClock:
    """Times windows of steps, then ends the training.

    After the warm-up it waits for the device once, times one window by the wall clock, and plans
    as many as fit into the time it was given. The first of them is left out: the device has to be
    kept busy before. Each window's end is an event in the GPU's own queue, read when all is over.

    Args:
        seconds: How long to measure.
        warmup: Steps before, at least 1: compiled code is made and graphs are recorded in them.
        steps: Measure so many (rounded up to whole windows) rather than for some seconds.
        agree: Makes one number of windows out of what each process would have; the same in all of
            them.
        profile: Taken after the last window, when its being slower does no harm.
        when_timed: Called before that.

    Attributes:
        ms: Milliseconds a step, one for each window.
    """

    phase = Phase.REPORT

    def __init__(
        self,
        seconds: float,
        warmup: int,
        steps: int | None = None,
        agree: Callable[[int], int] | None = None,
        profile: StepProfile | None = None,
        when_timed: Callable[[], object] | None = None,
    ) -> None:
        self.seconds = seconds
        self.warmup = warmup
        self.steps = steps
        self.agree = agree or int
        self.profile = profile
        self.when_timed = when_timed
        self.ms: list[float] = []
        self._device: torch.device
        self._window = 1
        self._done = 0
        self._began = 0.0
        self._windows = 0
        self._last: int | None = None
        self._marks: list[Any] = []  # of the processor's clock, or events of the GPU's

    @property
    def median_ms(self) -> float:
        """Of all windows."""
        return statistics.median(self.ms)

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of iterations."""
        self._device = trainer.device
        self._window = WINDOW[trainer.device.type]
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Count a step."""
        self._done += 1
        after = self._done - self.warmup
        if after == 0:
            self._wait()
            self._began = time.perf_counter()
        elif after == self._window:
            self._plan()
        # The window after the plan fills the device's queue.
        elif after > self._window and after % self._window == 0 and self._last is None:
            self._marks.append(self._now())
            if len(self._marks) > self._windows:
                self._end_timing()
        if self._done == self._last:
            if self.profile is not None:
                self._wait()
                self.profile.end()
            trainer.terminate()

    def _end_timing(self) -> None:
        self._read()
        self._last = self._done
        if self.when_timed is not None:
            self.when_timed()
        if self.profile is not None:
            self._last += self.profile.steps
            self.profile.begin(self._device)

    def _plan(self) -> None:
        self._wait()
        took = time.perf_counter() - self._began
        asked = self.seconds / took if self.steps is None else -(-self.steps // self._window)
        self._windows = self.agree(max(LEAST_WINDOWS, int(asked)))

    def _now(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter() * MS_PER_S
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self._device))
        return event

    def _read(self) -> None:
        self._wait()
        for before, after in zip(self._marks[:-1], self._marks[1:], strict=True):
            on_gpu = self._device.type == "cuda"
            elapsed = before.elapsed_time(after) if on_gpu else after - before
            self.ms.append(elapsed / self._window)

    def _wait(self) -> None:
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
