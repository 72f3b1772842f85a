"""Speed of training, and the share of time spent waiting for data."""

import time
from collections.abc import Mapping
from typing import Any

import torch
from ignite.engine import Events

from engine.distributed import gather
from engine.events import Phase, in_phase
from engine.protocols import SavedAttributes
from engine.trainer import Trainer

SAMPLES, WAIT, STEP = "time/samples_per_second", "time/data_wait", "time/step_ms"
MS_PER_S = 1000.0


class Throughput(SavedAttributes):
    """Measures the speed of each epoch's training, without validation.

    At an epoch's end ``state.metrics`` holds

    - ``time/samples_per_second``: training samples of all ranks by the slowest rank's time from the
      epoch's start to the end of its last batch;
    - ``time/data_wait``: the share of that time spent waiting for the loader, 0 to 1; of rank 0;
    - ``time/step_ms``: that time by the optimizer steps (vetoed ones too), in milliseconds.

    The parts of an epoch that was cut and resumed are added up. A GPU is never waited for: CUDA
    events measure how long it was idle before batches, and when it finished the epoch's last step.
    """

    phase = Phase.RECORD
    saved = ("_seconds", "_waited", "_samples", "_steps")

    def __init__(self) -> None:
        self._seconds = self._waited = 0.0
        self._samples = self._steps = 0
        self._ended = self._asked = 0.0  # when the last batch was done, and the next requested
        self._gpu: GpuClock | None = None

    def attach(self, trainer: Trainer) -> None:
        """Listen to epochs, to the loader and to the ends of iterations."""
        trainer.register_state("throughput", self)
        trainer.provide_metrics(SAMPLES, WAIT, STEP)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(Events.GET_BATCH_STARTED, self.ask)
        trainer.add_event_handler(Events.GET_BATCH_COMPLETED, self.receive)
        trainer.add_event_handler(Events.ITERATION_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.end_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.report)

    def start_epoch(self, trainer: Trainer) -> None:
        """Start the epoch's clocks."""
        self._waited = self._all_waited()
        self._ended = time.perf_counter()
        self._gpu = GpuClock(trainer.device) if trainer.device.type == "cuda" else None
        self._before = self._seconds  # of the parts before

    def ask(self) -> None:
        """Note the time of the request for a batch."""
        self._asked = time.perf_counter()
        if self._gpu is not None:
            self._gpu.asked = self._gpu.now()

    @in_phase(Phase.PREPARE)
    def receive(self) -> None:
        """Add the time until the batch was there."""
        if self._gpu is None:
            self._waited += time.perf_counter() - self._asked
        else:
            self._gpu.waits.append((self._gpu.asked, self._gpu.now()))

    def __call__(self, trainer: Trainer) -> None:
        """Count a batch."""
        before, self._ended = self._ended, time.perf_counter()
        self._seconds += self._ended - before
        self._samples += len(trainer.state.batch.sample_id)
        self._steps += trainer.state.sync_gradients

    @in_phase(Phase.PREPARE)
    def end_epoch(self) -> None:
        """Record the end of the epoch's last step on the GPU."""
        if self._gpu is not None:
            self._gpu.ended = self._gpu.now()

    # After the metrics, for which the device has finished its work.
    @in_phase(Phase.USER)
    def report(self, trainer: Trainer) -> None:
        """Turn the counts into metrics and reset them."""
        metrics = trainer.state.metrics
        for name in (SAMPLES, WAIT, STEP):
            metrics.pop(name, None)
        behind = 0.0 if self._gpu is None else self._before + self._gpu.seconds()
        ranks = gather((self._samples, max(self._seconds, behind)))
        samples, seconds = sum(each[0] for each in ranks), max(each[1] for each in ranks)
        if self._steps and seconds > 0:
            metrics[SAMPLES] = samples / seconds
            metrics[WAIT] = self._all_waited() / seconds
            metrics[STEP] = MS_PER_S * seconds / self._steps
        self._seconds = self._waited = 0.0
        self._samples = self._steps = 0
        self._gpu = None

    def _all_waited(self) -> float:
        return self._waited + (0.0 if self._gpu is None else self._gpu.waited())

    def state_dict(self) -> dict[str, Any]:
        """The counts of an unfinished epoch."""
        return {**super().state_dict(), "waited": self._all_waited()}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue an unfinished epoch."""
        super().load_state_dict(state_dict)
        self._gpu = None


class GpuClock:
    """Times of a GPU by CUDA events, from now on; those not yet reached are not counted."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.began = self.asked = self.now()
        self.ended: torch.cuda.Event | None = None
        # From the work before a batch to its arrival: with an empty queue the GPU was idle.
        self.waits: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    def now(self) -> torch.cuda.Event:
        """An event behind the work that is queued."""
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def waited(self) -> float:
        """Idle seconds before batches, of those the GPU has reached."""
        done = [(asked, given) for asked, given in self.waits if given.query()]
        return sum(float(asked.elapsed_time(given)) for asked, given in done) / MS_PER_S

    def seconds(self) -> float:
        """Seconds from start to end, if it was reached; else zero."""
        if self.ended is None or not self.ended.query():
            return 0.0
        return float(self.began.elapsed_time(self.ended)) / MS_PER_S
