"""How fast training goes, and how much of the time it waits for data."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from ignite.engine import Events

from engine.events import Phase, in_phase

if TYPE_CHECKING:
    from engine.trainer import Trainer

SAMPLES, WAIT, STEP = "time/samples_per_second", "time/data_wait", "time/step_ms"
MS_PER_S = 1000.0


class Throughput:
    """Measures each epoch's training by the clock; validation is no part of it.

    At an epoch's end ``state.metrics`` holds

    - ``time/samples_per_second``: samples trained on, by the time from the epoch's start to the
      end of its last batch;
    - ``time/data_wait``: the share of that time in which the loop waited for the loader, 0 to 1;
    - ``time/step_ms``: that time by the optimizer steps (vetoed ones count), in milliseconds.

    Names under ``time/`` are those that differ between runs that are equal otherwise. The parts
    of an epoch that was cut and resumed are added up; the time between them is not counted.

    A GPU works behind the loop. It is not waited for: its own clock tells when it was done with
    the epoch's last step, if it is by the time that the metrics, which do wait, are there.
    """

    phase = Phase.RECORD

    def __init__(self) -> None:
        self._began = self._ended = self._asked = 0.0  # this process's part of the epoch
        self._before = 0.0  # the time of the parts before
        self._waited = 0.0
        self._samples = self._steps = 0
        self._gpu_began: torch.cuda.Event | None = None
        self._gpu_ended: torch.cuda.Event | None = None

    def attach(self, trainer: Trainer) -> None:
        """Listen to epochs, to the loader and to the ends of iterations."""
        trainer.keep("throughput", self)
        trainer.provide_metrics(SAMPLES, WAIT, STEP)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self.ask)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self.receive)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.report)

    def start_epoch(self, trainer: Trainer) -> None:
        """Start the epoch's clocks."""
        self._before += self._ended - self._began
        self._began = self._ended = time.perf_counter()
        if trainer.device.type == "cuda":
            self._gpu_began, self._gpu_ended = _now_on(trainer.device), None

    def ask(self) -> None:
        """The loader is asked for a batch."""
        self._asked = time.perf_counter()

    @in_phase(Phase.PREPARE)
    def receive(self) -> None:
        """The loader has given it."""
        self._waited += time.perf_counter() - self._asked

    def __call__(self, trainer: Trainer) -> None:
        """Count a batch."""
        self._ended = time.perf_counter()
        self._samples += len(trainer.state.batch.sample_id)
        self._steps += trainer.state.window_closes

    @in_phase(Phase.PREPARE)
    def end_epoch(self, trainer: Trainer) -> None:
        """Have the GPU note when it has come to where the epoch's last step is done."""
        if self._gpu_began is not None:
            self._gpu_ended = _now_on(trainer.device)

    # After the metrics: whatever the device had to do for them, it has done.
    @in_phase(Phase.USER)
    def report(self, trainer: Trainer) -> None:
        """Turn the counts into metrics and start afresh."""
        metrics = trainer.state.metrics
        for name in (SAMPLES, WAIT, STEP):
            metrics.pop(name, None)
        seconds = self._before + max(self._ended - self._began, self._gpu_seconds())
        if self._steps and seconds > 0:
            metrics[SAMPLES] = self._samples / seconds
            metrics[WAIT] = self._waited / seconds
            metrics[STEP] = MS_PER_S * seconds / self._steps
        self._before = self._waited = 0.0
        self._samples = self._steps = 0
        self._began = self._ended

    def _gpu_seconds(self) -> float:
        began, ended = self._gpu_began, self._gpu_ended
        self._gpu_began = self._gpu_ended = None
        if began is None or ended is None or not ended.query():
            return 0.0
        return float(began.elapsed_time(ended)) / MS_PER_S

    def state_dict(self) -> dict[str, Any]:
        """The counts of an unfinished epoch."""
        return {
            "seconds": self._before + self._ended - self._began,
            "waited": self._waited,
            "samples": self._samples,
            "steps": self._steps,
        }

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue an unfinished epoch."""
        self._before, self._waited = state_dict["seconds"], state_dict["waited"]
        self._samples, self._steps = state_dict["samples"], state_dict["steps"]
        self._began = self._ended = time.perf_counter()
        self._gpu_began = self._gpu_ended = None


def _now_on(device: torch.device) -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)
    event.record(torch.cuda.current_stream(device))
    return event
