"""Checkpoints: the last, the best, the top k and periodic ones, each whole or absent."""

import math
import re
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from ignite.engine import Events

from datasets.errors import UsageError, file_errors
from datasets.files import PART_SUFFIX, write_whole
from datasets.specs import optional_whole, require_whole
from engine.checkpointing import (
    LAST_NAME,
    CheckpointError,
    broken_weight,
    load_checkpoint,
    pack_checkpoint,
)
from engine.distributed import broadcast_from_main, is_sharded
from engine.events import Phase
from engine.metrics import LAST_EPOCH, TIE_BREAK, Monitor
from engine.protocols import SavedAttributes
from engine.reporting import LARGEST_PLAIN, SMALLEST_PLAIN
from engine.trainer import Trainer

BEST_NAME = "best.pt"
NEVER = -1
Entry = tuple[str, float, int]  # file name, score, epoch


class Checkpoint(SavedAttributes):
    """Saves everything that the trainer registers, after all other handlers of the event.

    Four sorts of files, each whole or absent: ``last.pt`` to resume from, ``best.pt``, the
    ``save_top_k`` best as ``epoch=<epoch>-<monitor>=<score>.pt``, and each ``keep_every_epochs``
    epochs ``periodic-epoch=<epoch>.pt``, which are never removed. Of equal scores the lower
    ``val/loss`` makes ``best.pt``, then the earlier; NaN is never among the best; an epoch without
    the monitor, or between those of ``every_epochs``, is not ranked. Weights that are NaN or
    infinite are never saved. ``last.pt`` is also written within an epoch after ``every_steps``
    optimizer steps, and at the end of a run, completed or stopped.

    A run that is resumed without ``save_last`` loses its ``last.pt`` when a newer file is written;
    one that is resumed with another monitor has its files ranked again. ``meta`` are plain values
    that identify data and model (:func:`engine.checkpointing.check_meta`).

    Rank 0 writes the files; all ranks need the handler, because their states are gathered.
    Announces ``checkpoint_saved``, ``checkpoint_skipped`` and ``checkpoint_missing``. The file
    carries its ``checkpoint_saved``, which a resumed run announces again, because a log cut back to
    the file's moment lacks it.
    """

    phase = Phase.SAVE
    saved = (
        *("_top", "_best", "_best_loss", "_ranked_by"),
        *("_saved_iteration", "_saved_step", "_carried"),
    )
    folder: Path  # from attaching on

    def __init__(
        self,
        monitor: str | None = "val/auroc",
        mode: str | None = None,
        save_top_k: int = 3,
        save_last: bool = True,
        save_best: bool = True,
        every_epochs: int = 1,
        every_steps: int | None = None,
        keep_every_epochs: int | None = None,
        folder: str | Path | None = None,
        meta: Mapping[str, Any] | None = None,
    ) -> None:
        self.save_top_k = require_whole("checkpoint.save_top_k", save_top_k)
        self.every_epochs = require_whole("checkpoint.every_epochs", every_epochs, 1)
        self.every_steps = optional_whole("checkpoint.every_steps", every_steps, 1)
        what = "checkpoint.keep_every_epochs"
        self.keep_every_epochs = optional_whole(what, keep_every_epochs, 1)
        if every_steps is not None and not save_last:
            raise UsageError("checkpoint.every_steps writes last.pt: set save_last to true")
        if monitor is None and (save_top_k or save_best):
            raise UsageError(
                "checkpoint.monitor is needed to find the best: name a metric, or set "
                "save_top_k to 0 and save_best to false"
            )
        self.monitor = Monitor(monitor, mode, "checkpoint") if monitor is not None else None
        self._ranked_by = None if self.monitor is None else [self.monitor.name, self.monitor.mode]
        self._label = re.sub(r"[^\w.@-]", "_", monitor or "none")
        self.save_last, self.save_best = save_last, save_best
        self._folder = folder
        self.meta = dict(meta or {})
        self._top: list[Entry] = []  # best first
        self._best: tuple[float, int] | None = None  # score, epoch
        self._best_loss: float | None = None
        self._saved_iteration = 0
        self._saved_step = 0
        self._carried: dict[str, Any] | None = None
        self._ranked_otherwise = False

    def attach(self, trainer: Trainer) -> None:
        """Listen to the ends of epochs and of the run, and to steps where ``every_steps`` asks."""
        self.folder = trainer.in_run_dir("checkpoint.folder", self._folder, "checkpoints")
        if self.monitor is not None:
            self.monitor.attach(trainer)
        trainer.register_state("checkpoint", self)
        trainer.add_event_handler(Events.STARTED, self.start)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self)
        trainer.add_event_handler(Events.TERMINATE, self.save_the_rest)
        if self.every_steps is not None:
            trainer.add_event_handler(Events.ITERATION_COMPLETED, self.save_within)

    def file_name(self, epoch: int, score: float) -> str:
        """File name of one of the best epochs."""
        # Six decimals, unless they would not tell scores apart, or be a long row of digits.
        plain = score == 0 or SMALLEST_PLAIN <= abs(score) < LARGEST_PLAIN
        return f"epoch={epoch:03d}-{self._label}={score:.6{'f' if plain else 'e'}}.pt"

    # -- when -------------------------------------------------------------------------------

    def start(self, trainer: Trainer) -> None:
        """Create the folder, and make its files agree with a restored index."""
        state = trainer.state
        if self._saved_iteration != state.iteration:  # saved with another world size
            self._saved_iteration, self._saved_step = NEVER, state.optimizer_step
        # Steps may be counted again, with another accumulation than when it was saved.
        self._saved_step = min(self._saved_step, state.optimizer_step)
        with file_errors(f"cannot write checkpoints to {self.folder}", CheckpointError):
            if self._ranked_otherwise:
                self._top, self._best = broadcast_from_main(self._rank_again)
                self._best_loss = None
                self._ranked_otherwise = False
            self._top = broadcast_from_main(lambda: self._tidy(trainer))
            # Fail now where a state cannot be saved, not after the first epoch.
            states = trainer.capture()
            broadcast_from_main(lambda: len(pack_checkpoint(states, self.meta)))
        if self._carried is not None:
            carried, self._carried = self._carried, None
            trainer.log_event(**carried)

    def __call__(self, trainer: Trainer) -> None:
        """Save at an epoch's end."""
        state = trainer.state
        kept = []
        if self.keep_every_epochs and state.epoch % self.keep_every_epochs == 0:
            kept.append(f"periodic-epoch={state.epoch:03d}.pt")
        if state.epoch % self.every_epochs == 0 or state.epoch == state.max_epochs:
            score = None if self.monitor is None else self.monitor.read(trainer)
            self._save(trainer, score, kept)
        elif kept or self._steps_are_due(trainer):
            self._save(trainer, None, kept)

    def save_within(self, trainer: Trainer) -> None:
        """Save ``last.pt`` within an epoch, between two accumulations."""
        state = trainer.state
        # After an epoch's last step its metrics are still to come: the epoch's end saves.
        at_epochs_end = state.iteration % state.epoch_length == 0
        if self._steps_are_due(trainer) and state.sync_gradients and not at_epochs_end:
            self._save(trainer, None)

    def save_the_rest(self, trainer: Trainer) -> None:
        """Save ``last.pt`` where a run was stopped, which is after a whole accumulation."""
        if self.save_last and trainer.state.iteration != self._saved_iteration:
            self._save(trainer, None, planned=False)

    def _steps_are_due(self, trainer: Trainer) -> bool:
        passed = trainer.state.optimizer_step - self._saved_step
        return self.every_steps is not None and passed >= self.every_steps

    # -- what -------------------------------------------------------------------------------

    def _save(
        self, trainer: Trainer, score: float | None, kept: Sequence[str] = (), planned: bool = True
    ) -> None:
        state = trainer.state
        place = {"epoch": state.epoch, "iteration": state.iteration}
        before = self._top, self._best, self._best_loss, self._saved_iteration
        if planned:
            self._saved_step = state.optimizer_step
        search = partial(broken_weight, trainer.model)
        # Within an epoch running statistics differ; those of rank 0 are saved.
        broken = search() if is_sharded(trainer.model) else broadcast_from_main(search)
        if broken is not None:
            message = f"not saved: the model's {broken} holds NaN or infinite values"
            trainer.log_event("checkpoint_skipped", **place, message=message)
            return
        loss = state.metrics.get(TIE_BREAK)
        names = []
        if score is not None and not math.isnan(score):
            names = self._rank(score, state.epoch, loss)
        names += kept
        if self.save_last:
            # Last, when the files that its index lists are written.
            names.append(LAST_NAME)
        if not names:
            return
        self._saved_iteration = state.iteration
        notice = {"event": "checkpoint_saved", **place, "score": score, "files": names}
        # An uncut run would not have announced a save at a stop: the file does not carry it.
        self._carried = notice if planned else None
        problem, end = f"cannot save a checkpoint to {self.folder}", "; the earlier ones stand"
        try:
            with file_errors(problem, CheckpointError, end):
                states = trainer.capture()
                broadcast_from_main(lambda: self._write(states, names, before[0]))
        except CheckpointError:
            self._top, self._best, self._best_loss, self._saved_iteration = before
            raise
        finally:
            self._carried = None
        trainer.log_event(**notice)

    def _write(self, states: Mapping[str, Any], names: Sequence[str], former: list[Entry]) -> None:
        """Write the files, then remove those that fell out of the best."""
        write_whole(pack_checkpoint(states, self.meta), self.folder, *names)
        still = {name for name, _, _ in self._top}
        for name, _, _ in former:
            if name not in still:
                (self.folder / name).unlink(missing_ok=True)
        if not self.save_last:
            # A resumed run may have one, which would be preferred to the newer files.
            (self.folder / LAST_NAME).unlink(missing_ok=True)

    def _rank(self, score: float, epoch: int, loss: float | None) -> list[str]:
        """Rank a score; returns the names of the files to write."""
        assert self.monitor is not None
        names = []
        top = [entry for entry in self._top if entry[2] != epoch]
        beaten = (i for i, entry in enumerate(top) if self.monitor.is_better(score, entry[1]))
        place = next(beaten, len(top))
        if place < self.save_top_k:
            names.append(self.file_name(epoch, score))
            self._top = [*top[:place], (names[0], score, epoch), *top[place:]][: self.save_top_k]
        best = None if self._best is None else (self._best[0], self._best_loss)
        if self.save_best and self.monitor.is_better_epoch(score, loss, best):
            self._best, self._best_loss = (score, epoch), loss
            names.append(BEST_NAME)
        return names

    def _rank_again(self) -> tuple[list[Entry], tuple[float, int] | None]:
        """The top and the best by this monitor's value in the files of a run that had another."""
        assert self.monitor is not None
        found: list[Entry] = []
        for name in dict.fromkeys([*(name for name, _, _ in self._top), BEST_NAME]):
            try:
                state = load_checkpoint(self.folder / name)["states"]["trainer"]
            except CheckpointError:  # missing or damaged
                continue
            epoch = state["iteration"] // state["epoch_length"]
            score = state["metrics"].get(self.monitor.name, math.nan)
            score = float(epoch) if self.monitor.name == LAST_EPOCH else score
            if not math.isnan(score):
                found.append((name, score, epoch))
        sign = -1 if self.monitor.mode == "max" else 1
        found.sort(key=lambda entry: (sign * entry[1], entry[2]))
        if not found:
            return [], None
        name, score, epoch = found[0]
        if name != BEST_NAME:
            write_whole((self.folder / name).read_bytes(), self.folder, BEST_NAME)
        top = [entry for entry in found if entry[0] != BEST_NAME]
        return top[: self.save_top_k], (score, epoch)

    def _tidy(self, trainer: Trainer) -> list[Entry]:
        """Create the folder, and undo a save that was cut off; returns the best that are there."""
        self.folder.mkdir(parents=True, exist_ok=True)
        for part in self.folder.glob(f".*{PART_SUFFIX}"):
            part.unlink(missing_ok=True)
        missing = [name for name, _, _ in self._top if not (self.folder / name).exists()]
        if missing:
            self._top = [entry for entry in self._top if entry[0] not in missing]
            trainer.log_event("checkpoint_missing", files=missing)
        kept = {name for name, _, _ in self._top}
        # It had fallen out of the best, and was about to be removed.
        for file in self.folder.glob(f"epoch=*-{self._label}=*.pt"):
            epoch = re.match(r"epoch=(\d+)-", file.name)
            if epoch and int(epoch[1]) <= trainer.state.epoch and file.name not in kept:
                file.unlink(missing_ok=True)
        # The best may have been written for an epoch that this run is about to repeat.
        if self._best is not None and self._top and self._top[0][2] == self._best[1]:
            content, best = (self.folder / self._top[0][0]).read_bytes(), self.folder / BEST_NAME
            if not best.exists() or best.read_bytes() != content:
                write_whole(content, self.folder, BEST_NAME)
        return self._top

    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue the index of the best, and the place of the last save."""
        ranks_by = self._ranked_by
        super().load_state_dict(state_dict)
        self._ranked_otherwise = self.monitor is not None and self._ranked_by != ranks_by
        self._ranked_by = ranks_by
