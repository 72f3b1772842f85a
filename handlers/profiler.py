"""A profile of a few training steps by torch's profiler."""

from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from ignite.engine import Events
from torch.profiler import ProfilerActivity, profile, record_function, schedule

from datasets.errors import file_errors
from datasets.files import replaced, write_whole
from datasets.specs import require_whole
from engine.events import Phase, TrainEvents
from engine.protocols import SavedAttributes
from engine.trainer import Trainer

TRACE_NAME, TABLE_NAME = "trace.json", "top_operations.txt"
TABLE_ROWS = 40
# Named parts of a step in the trace: each begins at its event and ends at the next.
PARTS: dict[Any, tuple[str, Phase]] = {
    Events.GET_BATCH_STARTED: ("get batch", Phase.PREPARE),
    Events.GET_BATCH_COMPLETED: ("batch to device", Phase.PREPARE),
    TrainEvents.BATCH_READY: ("forward", Phase.PREPARE),
    TrainEvents.FORWARD_COMPLETED: ("loss", Phase.PREPARE),
    TrainEvents.LOSS_COMPLETED: ("backward", Phase.PREPARE),
    TrainEvents.BACKWARD_COMPLETED: ("gradients: unscale, clip", Phase.PREPARE),
    TrainEvents.GRADIENTS_READY: ("optimizer", Phase.REPORT),
    TrainEvents.OPTIMIZER_STEPPED: ("after the step: averages, schedule", Phase.PREPARE),
}


class Profiler(SavedAttributes):
    """Profiles a few optimizer steps of a run, once.

    Writes ``trace.json`` for https://ui.perfetto.dev or ``chrome://tracing``, in which the parts of
    a step are named, and ``top_operations.txt``, a table of the slowest operations; announces
    ``profile_written``. A run that ends within these steps writes those it has. A resumed run
    profiles only if there is no profile yet. After ``wait`` optimizer steps ``warmup`` ones are
    profiled but not kept, because the profiler's first ones are slow; then ``active`` ones are.
    """

    phase = Phase.RECORD
    saved = ("_done",)
    folder: Path  # from attaching on
    first_process_only = True

    def __init__(
        self, wait: int = 5, warmup: int = 2, active: int = 5, folder: str | Path | None = None
    ) -> None:
        self.wait = require_whole("profiler.wait", wait, 0)
        self.warmup = require_whole("profiler.warmup", warmup, 1)
        self.active = require_whole("profiler.active", active, 1)
        self._folder = folder
        self._trainer: Trainer
        self._done = False
        self._profile: profile | None = None
        self._part = ExitStack()  # of the running part
        self._attached: list[tuple[Any, Callable[..., Any]]] = []

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start and end; to steps only until the profile is written."""
        self.folder = trainer.in_run_dir("profiler.folder", self._folder, "profile")
        self._trainer = trainer
        trainer.register_state("profiler", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.COMPLETED, self.close, phase=Phase.USER)

    def start(self, trainer: Trainer) -> None:
        """Begin the profile, unless it was written already."""
        if self._done or trainer.should_terminate:
            return
        activities = [ProfilerActivity.CPU]
        if trainer.device.type == "cuda":
            activities.append(ProfilerActivity.CUDA)
        self._profile = profile(
            activities=activities,
            schedule=schedule(wait=self.wait, warmup=self.warmup, active=self.active, repeat=1),
            on_trace_ready=self._write,
            # There is one cycle only; some versions of torch warn unless its events are kept.
            acc_events=True,
        )
        self._profile.start()
        self._listen(Events.ITERATION_COMPLETED, self, Phase.RECORD)
        for event, (name, phase) in PARTS.items():
            self._listen(event, self._part_begins(name), phase)

    def __call__(self, trainer: Trainer) -> None:
        """Tell the profile of an optimizer step; end it where due."""
        self._part.close()
        if self._profile is None or not trainer.state.sync_gradients:
            return
        self._profile.step()
        if self._profile.step_num == self.wait + self.warmup + self.active:
            self._done = True
            self.close()

    def close(self) -> None:
        """End the profile; also call it where a run ends in an exception."""
        self._part.close()
        for event, handler in self._attached:
            self._trainer.remove_event_handler(handler, event)
        self._attached = []
        running, self._profile = self._profile, None
        if running is not None:
            running.stop()

    def _listen(self, event: Any, handler: Callable[..., Any], phase: Phase) -> None:
        self._trainer.add_event_handler(event, handler, phase=phase)
        self._attached.append((event, handler))

    def _part_begins(self, name: str) -> Callable[[], None]:
        def begin() -> None:
            self._part.close()
            self._part.enter_context(record_function(name))

        return begin

    def _write(self, finished: profile) -> None:
        folder = self.folder
        on_gpu = self._trainer.device.type == "cuda"
        by = "self_device_time_total" if on_gpu else "self_cpu_time_total"
        table = finished.key_averages().table(sort_by=by, row_limit=TABLE_ROWS)
        with file_errors(f"cannot write a profile to {folder}"):
            folder.mkdir(parents=True, exist_ok=True)
            with replaced(folder / TRACE_NAME, durable=False) as part:
                finished.export_chrome_trace(str(part))
            write_whole(table.encode(), folder, TABLE_NAME, durable=False)
        self._trainer.log_event(
            "profile_written",
            trace=str(folder / TRACE_NAME),
            table=str(folder / TABLE_NAME),
            message=f"profile of a few steps: {folder / TRACE_NAME} (open in ui.perfetto.dev), "
            f"{TABLE_NAME} beside it",
        )
