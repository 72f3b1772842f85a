"""A search for the learning rate before training, and the page that shows it."""

import copy
import math
import os
import statistics
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from ignite.handlers import FastaiLRFinder

from datasets.errors import UsageError
from datasets.specs import require_number, require_range, require_whole
from engine.checkpointing import preserve_rng_state
from engine.distributed import alone, require_unsharded
from engine.events import Phase
from engine.optim import learning_rate
from engine.reporting import render_plots, write_text
from engine.trainer import Trainer

TEMPLATE = Path(__file__).parent / "templates" / "lr_finder.html.j2"
# Ignite's finder stops where the smoothed loss has become so many times the least.
DIVERGED = 5.0
# The slope is taken between points a twentieth of the search apart, and the loss averaged over as
# many steps before and after: with fewer, the luck of a few batches would decide.
POINTS = 20
# The steepest fall is looked for among the inner points of a falling curve.
FEWEST_POINTS = 3
# Fewer steps could neither be smoothed nor have a steepest one.
FEWEST_STEPS = 10


@dataclass(frozen=True)
class LRSearch:
    """A search, by step: largest rates, losses averaged around each, and those of the batches."""

    lrs: list[float]
    losses: list[float]
    raw_losses: list[float]
    suggestion: float | None
    diverged: bool


def find_lr(
    trainer: Trainer, loader: Any, start_lr: float = 1e-6, end_lr: float = 1.0, num_iter: int = 100
) -> LRSearch:
    """Ignite's ``FastaiLRFinder`` on copies of a trainer's model, optimizer and loss (Smith 2017).

    The trainer, which is not started yet, the random number streams and the loader are left as they
    were; the trainer's handlers (clipping, accumulation) take no part.
    """
    check_range(start_lr, end_lr, num_iter)
    parts = trainer.model, trainer.optimizer, trainer.loss, trainer.precision
    model, optimizer, loss, precision = copy.deepcopy(parts)
    searcher = Trainer(model, optimizer, loss, trainer.device)
    searcher.precision = precision
    shares = _start_at(optimizer, start_lr)

    finder, lrs, raw_losses = FastaiLRFinder(), [], []

    def note(searcher: Trainer) -> None:
        raw_losses.append(float(searcher.state.losses["total_loss"]))
        # To Ignite NaN has not diverged; and the run that asked may have been told to stop.
        if math.isnan(raw_losses[-1]) or trainer.should_terminate:
            searcher.terminate()

    def set_rate(searcher: Trainer) -> None:
        # Ignite's schedule repeats its first rate and ends before its last one.
        step = min(searcher.state.iteration, num_iter) - 1
        lr = start_lr * (end_lr / start_lr) ** (step / (num_iter - 1))
        for group, share in zip(optimizer.param_groups, shares, strict=True):
            group["lr"] = lr * share
        lrs.append(learning_rate(optimizer))

    searcher.add_event_handler(Events.ITERATION_STARTED, set_rate, phase=Phase.REPORT)
    searcher.add_event_handler(Events.ITERATION_COMPLETED, note, phase=Phase.RECORD)
    with preserve_rng_state(), _generator_untouched(loader), warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Run completed without loss diverging", UserWarning)
        with finder.attach(
            searcher,
            to_save={"optimizer": optimizer},
            output_transform=lambda losses: losses["total_loss"],
            num_iter=num_iter,
            start_lr=[start_lr * share for share in shares],
            end_lr=[end_lr * share for share in shares],
            diverge_th=DIVERGED,
        ):
            searcher.fit(loader, math.ceil(num_iter / len(loader)))
    return _read(finder, lrs[:num_iter], raw_losses[:num_iter])


def check_range(start_lr: float, end_lr: float, num_iter: int) -> int:
    """Refuse a search that cannot find anything."""
    end_lr = require_number("lr_finder.end_lr", end_lr)
    require_range("lr_finder.start_lr", start_lr, 0, end_lr, open_low=True)
    return require_whole("lr_finder.num_iter", num_iter, FEWEST_STEPS)


def _start_at(optimizer: torch.optim.Optimizer, start_lr: float) -> list[float]:
    """Set each group to its share of the rate; the shares, of which the largest is 1."""
    groups = optimizer.param_groups
    # A schedule that warms up has set the present rate to next to nothing.
    full = [float(group.get("initial_lr", group["lr"])) for group in groups]
    shares = [rate / max(full) for rate in full] if min(full) > 0 else [1.0] * len(full)
    for group, share in zip(groups, shares, strict=True):
        # The schedule that Ignite uses takes it for the rate of its first step.
        group.pop("initial_lr", None)
        group["lr"] = start_lr * share
    return shares


@contextmanager
def _generator_untouched(loader: Any) -> Iterator[None]:
    """Restore the loader's own random number stream, if it has one."""
    generator = getattr(loader, "generator", None)
    state = None if generator is None else generator.get_state()
    try:
        yield
    finally:
        if generator is not None:
            generator.set_state(state)


def _read(finder: FastaiLRFinder, lrs: list[float], raw_losses: list[float]) -> LRSearch:
    history = finder.get_results()
    stopped = history["loss"]
    whole = next((i for i, loss in enumerate(raw_losses) if not math.isfinite(loss)), len(lrs))
    diverged = whole < len(raw_losses) or stopped[-1] > DIVERGED * min(stopped)
    reach = max(1, whole // POINTS)
    finite = raw_losses[:whole]
    losses = [statistics.fmean(finite[max(0, i - reach) : i + reach + 1]) for i in range(whole)]
    # Ignite smooths with what came before only, which moves the fall to rates ten times as high.
    history["lr"], history["loss"] = lrs[:whole:reach], losses[::reach]
    try:
        enough = len(history["loss"]) >= FEWEST_POINTS
        suggestion = float(finder.lr_suggestion()) if enough else None
    except RuntimeError:  # the loss did not fall for as long as it takes
        suggestion = None
    return LRSearch(lrs[: len(raw_losses)], losses, raw_losses, suggestion, diverged)


class LRFinder:
    """Searches for the learning rate before training, and writes a page with the curve.

    The rates rise from ``start_lr`` to ``end_lr``, unless the loss diverges before, in ``num_iter``
    steps, at least 10. Training goes on unchanged; announces ``lr_suggested``. A resumed run does
    not search again. Rank 0 searches, on its own batches.
    """

    phase = Phase.REPORT
    page: Path  # from attaching on
    first_process_only = True

    def __init__(
        self,
        start_lr: float = 1e-6,
        end_lr: float = 1.0,
        num_iter: int = 100,
        page: str | Path | None = None,
    ) -> None:
        self.num_iter = check_range(start_lr, end_lr, num_iter)
        self.start_lr, self.end_lr = start_lr, end_lr
        self._page = page

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start."""
        self.page = trainer.in_run_dir("lr_finder.page", self._page, "report", "lr_finder.html")
        require_unsharded(trainer.model, "lr_finder")
        _require_place(self.page)
        trainer.add_event_handler(Events.STARTED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Search, write the page and log the suggestion."""
        if trainer.should_terminate or trainer.state.iteration:
            return
        loader = trainer.state.dataloader
        with alone():
            search = find_lr(trainer, loader, self.start_lr, self.end_lr, self.num_iter)
        title = "" if trainer.run_dir is None else Path(trainer.run_dir).name
        write_page(search, self.page, title)
        trainer.log_event(
            "lr_suggested",
            lr=search.suggestion,
            page=str(self.page),
            message=f"{verdict(search)} ({self.page})",
        )


def _require_place(page: Path) -> None:
    """Refuse a page that could not be written, before the search; makes nothing."""
    there = next(path for path in page.absolute().parents if path.exists())
    if page.is_dir() or not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        reason = "it is a folder" if page.is_dir() else f"{there} takes no file"
        raise UsageError(f"lr_finder.page: cannot write {page}: {reason}")


def verdict(search: LRSearch) -> str:
    """The result of a search in a sentence."""
    if search.suggestion is None:
        advice = "choose a smaller start_lr, or more steps"
        return f"no learning rate to suggest: the loss never fell; {advice}"
    limit = "" if search.diverged else "; the loss never diverged: try a larger end_lr"
    return f"suggested learning rate {search.suggestion:.1e}{limit}"


def write_page(search: LRSearch, path: Path, title: str = "") -> None:
    """Write the page: one file without network access; its folder is created."""
    curve = {
        "lrs": search.lrs,
        "losses": search.losses,
        "raw": [loss if math.isfinite(loss) else None for loss in search.raw_losses],
        "suggestion": search.suggestion,
    }
    text = render_plots(TEMPLATE, {"curve": curve}, title=title, verdict=verdict(search))
    write_text(text, path)
