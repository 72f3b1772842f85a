"""The log of a run, one line per event, and the tables made from it."""

import json
import math
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError, file_errors
from datasets.files import write_whole
from engine.events import Phase, TrainEvents
from engine.metrics import Monitor
from engine.reporting import PLACE, TABLED, as_json, read_log, write_metrics_csv, write_metrics_json
from engine.trainer import Trainer

# Least time between writes of the tables and between flushes to the disk: they take milliseconds,
# which short epochs would notice.
LAG_S = 1.0


class RunLog:
    """Writes ``log.jsonl`` and the tables made from it.

    Each line is a dict with ``event`` and ``time`` (UTC): ``run_started`` or ``run_resumed``, every
    notice of the trainer, ``epoch`` with its metrics, ``run_completed`` or ``run_terminated``
    (stopped before the end of the budget). NaN is written as null, an infinite number as the text
    ``inf`` or ``-inf``. Each line is handed to the system at once, and survives the process.
    ``metrics.csv`` (one row per epoch) and ``metrics.json`` (best, last, test; the best by
    ``monitor``) are written at the end of an epoch (at most once a second), of the run and of a
    test; they hold no times, so that equal runs give equal tables.

    When a run is resumed, the lines that were written after the checkpoint move to
    ``log.discarded.jsonl``: the log then reads as that of an uncut run, but for ``run_resumed``. So
    that a notice is neither lost nor doubled, a handler announces it before the phase ``SAVE``.
    """

    phase = Phase.RECORD
    first_process_only = True

    def __init__(
        self, path: str | Path | None = None, monitor: str | None = None, mode: str | None = None
    ) -> None:
        self._path = None if path is None else Path(path)
        self.monitor = None if monitor is None else Monitor(monitor, mode, "run_log")
        self._own_from: int | None = None  # where the lines of this process begin
        self._stale: tuple[int, int] | None = None  # bytes that the next start discards
        self._started = self._running = False
        self._written: list[dict[str, Any]] = []  # lines not to be written again
        self._tabled: list[dict[str, Any]] | None = None
        self._epoch_began = 0.0
        self._tables_at = self._flushed_at = -math.inf

    @property
    def path(self) -> Path:
        """The log's file."""
        if self._path is None:
            raise UsageError("run_log.path: name one, or attach the log to a trainer first")
        return self._path

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's and the epochs' start and end, and to notices."""
        self._path = trainer.in_run_dir("run_log.path", self._path, "log.jsonl")
        if self.monitor is not None:
            self.monitor.attach(trainer)
        trainer.register_state("run_log", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.COMPLETED, self.finish)
        trainer.add_event_handler(TrainEvents.LOG_EVENT, self.note)

    def write(self, event: str, **fields: Any) -> None:
        """Add a line, also before or after training; ``metrics.json`` takes ``test_completed``."""
        now = datetime.now(timezone.utc).isoformat(timespec="milliseconds")
        row = as_json({"event": event, "time": now, **fields})
        self._settle()
        with file_errors(f"cannot write the log {self.path}"), open(self.path, "ab") as file:
            file.write(json.dumps(row, allow_nan=False).encode() + b"\n")
        if event in TABLED and self._tabled is not None:
            self._tabled.append(row)
        short_epoch = event == "epoch" and time.perf_counter() - self._tables_at < LAG_S
        if event in TABLED and not short_epoch:
            self.write_tables()

    def start(self, trainer: Trainer) -> None:
        """Discard the lines that will come again, and log the start."""
        if trainer.should_terminate:
            # A finished run: the lines of its end are not doubled, missing ones are added.
            rows = read_log(self.path)
            self._written = [{k: v for k, v in row.items() if k != "time"} for row in rows]
            return
        self._running = True
        self._written = []
        self._take_out_stale()
        self._started = True
        self.write(
            "run_resumed" if trainer.state.iteration else "run_started",
            **_place(trainer),
            max_epochs=trainer.state.max_epochs,
            epoch_length=trainer.state.epoch_length,
        )

    def start_epoch(self) -> None:
        """Start the epoch's clock."""
        self._epoch_began = time.perf_counter()

    def __call__(self, trainer: Trainer) -> None:
        """Write an epoch's line."""
        seconds = round(time.perf_counter() - self._epoch_began, 3)
        metrics = dict(trainer.state.metrics)
        self.write("epoch", **_place(trainer), seconds=seconds, metrics=metrics)

    def finish(self, trainer: Trainer) -> None:
        """Write the last line of a run."""
        self._running = False
        whole = trainer.epochs_done() >= trainer.state.max_epochs
        event = "run_completed" if whole else "run_terminated"
        self.write_once(event, **_place(trainer))
        self.write_tables()

    def note(self, trainer: Trainer) -> None:
        """Write a notice's line."""
        self.write_once(**trainer.state.notice)

    def write_once(self, event: str, **fields: Any) -> None:
        """As :meth:`write`, unless the log of a finished run has the line already."""
        if as_json({"event": event, **fields}) not in self._written:
            self.write(event, **fields)

    def state_dict(self) -> dict[str, Any]:
        """The length of the log, which is on the disk but for the last second."""
        now = time.perf_counter()
        if now - self._flushed_at >= LAG_S and self.path.exists():
            self._flushed_at = now
            with open(self.path, "rb") as file:
                os.fsync(file.fileno())
        return {"position": _size(self.path)}

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Let the next start discard the lines written after the state was saved."""
        if self._running:  # a rollback within a run stays in the log
            return
        self._settle()
        assert self._own_from is not None
        end = _size(self.path) if self._started else self._own_from
        self._stale = (state_dict["position"], end)

    def _settle(self) -> None:
        """At first: end a line that was cut off, and find where this process's lines begin."""
        if self._own_from is not None:
            return
        self._own_from = size = _size(self.path)
        if size:
            with open(self.path, "r+b") as file:
                file.seek(-1, os.SEEK_END)
                if file.read(1) != b"\n":
                    file.write(b"\n")
                    self._own_from = size = size + 1
            # A new run begins a new log.
            self._stale = (0, size)

    def _take_out_stale(self) -> None:
        self._settle()
        if self._stale is None:
            return
        (begin, end), self._stale = self._stale, None
        if begin > end:
            message = f"the log lacks {begin - end} bytes that it had when the checkpoint was saved"
            self.write("notice", message=message)
        elif begin < end:
            discarded = self.path.with_name(f"{self.path.stem}.discarded{self.path.suffix}")
            with file_errors(f"cannot write {discarded}"):
                content = self.path.read_bytes()
                with open(discarded, "ab") as file:
                    file.write(content[begin:end])
                write_whole(content[:begin] + content[end:], self.path.parent, self.path.name)
            self._tabled = None
            self.write_tables()

    def write_tables(self) -> None:
        """Write ``metrics.csv`` and ``metrics.json`` from the log."""
        self._tables_at = time.perf_counter()
        if self._tabled is None:
            self._tabled = [row for row in read_log(self.path) if row["event"] in TABLED]
        write_metrics_csv(self._tabled, self.path.with_name("metrics.csv"))
        monitor = (None,) if self.monitor is None else (self.monitor.name, self.monitor.mode)
        write_metrics_json(self._tabled, self.path.with_name("metrics.json"), *monitor)


def _place(trainer: Trainer) -> dict[str, int]:
    return {key: getattr(trainer.state, key) for key in PLACE}


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
