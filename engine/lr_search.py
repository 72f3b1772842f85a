"""A search for the learning rate, on copies of what is to be trained."""

from __future__ import annotations

import copy
import math
import statistics
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Events
from ignite.handlers import FastaiLRFinder

from datasets.errors import UsageError
from datasets.specs import require_whole
from engine.checkpointing import preserve_rng_state
from engine.events import Phase
from engine.optim import learning_rate
from engine.trainer import Trainer

# The finder stops when the smoothed loss is so many times its minimum.
DIVERGED = 5.0
# The slope is measured between this many points, and the loss averaged over as many steps before
# and after: with less, single batches would decide.
POINTS = 20
# The steepest slope is searched among the inner points of a falling curve.
FEWEST_POINTS = 3
FEWEST_STEPS = 10


@dataclass(frozen=True)
class LRSearch:
    """The result of a search.

    Attributes:
        lrs: The largest learning rate of the optimizer's groups, per step.
        losses: The loss at each, averaged over the steps around it, up to the first that is not
            finite.
        raw_losses: The loss of each step's batch.
        suggestion: Where the averaged loss fell most steeply; None if it did not fall.
        diverged: Whether the loss diverged before ``end_lr`` was reached.
    """

    lrs: list[float]
    losses: list[float]
    raw_losses: list[float]
    suggestion: float | None
    diverged: bool


def find_lr(
    trainer: Trainer,
    loader: Any,
    start_lr: float = 1e-6,
    end_lr: float = 1.0,
    num_iter: int = 100,
) -> LRSearch:
    """Train a copy of the trainer's model at a growing learning rate.

    Ignite's ``FastaiLRFinder`` (Smith 2017, "Cyclical Learning Rates for Training Neural Networks")
    on copies of model, optimizer and loss, in the trainer's precision and without its handlers.
    Trainer, random number streams and loader are left unchanged. Groups keep the ratios of their
    rates.

    Args:
        trainer: What is to be trained.
        loader: Training batches; iterated as often as needed.
        start_lr: Above 0.
        end_lr: The last rate, unless the loss diverges before.
        num_iter: Number of steps, at least 10.

    Raises:
        UsageError: A setting is out of range.
    """
    num_iter = check_range(start_lr, end_lr, num_iter)
    model, optimizer, loss, precision = copy.deepcopy(
        (trainer.model, trainer.optimizer, trainer.loss, trainer.precision)
    )
    searcher = Trainer(model, optimizer, loss, trainer.device)
    searcher.precision = precision
    shares = _start_at(optimizer, start_lr)

    finder, lrs, raw_losses = FastaiLRFinder(), [], []

    def note(searcher: Trainer) -> None:
        raw_losses.append(float(searcher.state.losses["total_loss"]))
        # Ignite does not stop at NaN; and the calling run may have been told to stop.
        if math.isnan(raw_losses[-1]) or trainer.should_terminate:
            searcher.terminate()

    # Ignite records the rate of the step after the one whose loss it records.
    searcher.add_event_handler(
        Events.ITERATION_STARTED, lambda: lrs.append(learning_rate(optimizer))
    )
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
    """Return ``num_iter``; raise UsageError for a search that cannot find anything."""
    steps = require_whole("lr_finder.num_iter", num_iter, FEWEST_STEPS)
    numbers = all(isinstance(lr, (int, float)) for lr in (start_lr, end_lr))
    if not numbers or not 0 < start_lr < end_lr < math.inf:
        raise UsageError(
            f"lr_finder: start_lr must be above 0 and below end_lr, not {start_lr!r} and {end_lr!r}"
        )
    return steps


def _start_at(optimizer: torch.optim.Optimizer, start_lr: float) -> list[float]:
    """Set each group to its fraction of ``start_lr``; the fractions, of which the largest is 1."""
    groups = optimizer.param_groups
    # During a warm-up the present rate is close to zero.
    full = [float(group.get("initial_lr", group["lr"])) for group in groups]
    shares = [rate / max(full) for rate in full] if min(full) > 0 else [1.0] * len(full)
    for group, share in zip(groups, shares, strict=True):
        # Ignite's schedule would use it as the rate of its first step.
        group.pop("initial_lr", None)
        group["lr"] = start_lr * share
    return shares


@contextmanager
def _generator_untouched(loader: Any) -> Iterator[None]:
    """Restore the loader's own random number stream."""
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
    losses = [
        statistics.fmean(raw_losses[max(0, i - reach) : min(i + reach + 1, whole)])
        for i in range(whole)
    ]
    # Ignite smooths over earlier steps only, which shifts the slope to ten times higher rates.
    history["lr"], history["loss"] = lrs[:whole:reach], losses[::reach]
    try:
        enough = len(history["loss"]) >= FEWEST_POINTS
        suggestion = float(finder.lr_suggestion()) if enough else None
    except RuntimeError:  # the loss did not fall
        suggestion = None
    return LRSearch(lrs[: len(raw_losses)], losses, raw_losses, suggestion, diverged)
