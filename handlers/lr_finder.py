"""A search for the learning rate before training, and the page that shows it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING

from ignite.engine import Events

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.distributed import alone, require_unsharded
from engine.events import Phase
from engine.lr_search import LRSearch, check_range, find_lr
from engine.reporting import PLOTLY_CONFIG, page_template, plotly_js

if TYPE_CHECKING:
    from engine.trainer import Trainer

__all__ = ["LRFinder", "LRSearch", "find_lr", "verdict", "write_page"]

TEMPLATE = Path(__file__).parent / "templates" / "lr_finder.html.j2"


class LRFinder:
    """Looks for the learning rate before training, and writes a page that shows what it found.

    Training then goes on as if nothing had happened, at the configured rate; announces
    ``lr_suggested``. A resumed run does not search again. Of several processes the first searches,
    on its own batches. In a configuration, on the command
    line, and without a run::

        handlers: [{name: lr_finder, params: {num_iter: 200}}]

        python experiments/run.py tft_baseline --handlers '[{name: lr_finder}]'

        search = find_lr(trainer, train_loader)
        write_page(search, Path("lr_finder.html"), title="first try")

    Args:
        start_lr: Where to begin, above 0.
        end_lr: Where to end, unless the loss diverges before.
        num_iter: How many steps, at least 10.
        page: Where to write; ``<run_dir>/report/lr_finder.html`` by default.

    Raises:
        UsageError: A setting is out of range.

    Example:
        >>> LRFinder(start_lr=1e-5, page="lr.html").page.name
        'lr.html'
    """

    phase = Phase.REPORT
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
        self.page = None if page is None else Path(page)

    def attach(self, trainer: Trainer) -> None:
        """Listen to the run's start.

        Raises:
            UsageError: There is no place to write to.
        """
        if self.page is None:
            if trainer.run_dir is None:
                raise UsageError("lr_finder.page: name one, the trainer has no run_dir")
            self.page = Path(trainer.run_dir) / "report" / "lr_finder.html"
        require_unsharded(trainer.model, "lr_finder")
        trainer.add_event_handler(Events.STARTED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Search, write the page and say what was found."""
        if trainer.should_terminate or trainer.state.iteration:
            return
        assert self.page is not None
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


def verdict(search: LRSearch) -> str:
    """What a search found, in a sentence.

    Example:
        >>> verdict(LRSearch([0.1], [0.7], [0.7], None, False))
        'no learning rate to suggest: the loss never fell; choose a smaller start_lr, or more steps'
    """
    if search.suggestion is None:
        return (
            "no learning rate to suggest: the loss never fell; choose a smaller start_lr, "
            "or more steps"
        )
    sentence = f"suggested learning rate {search.suggestion:.1e}"
    return (
        sentence if search.diverged else f"{sentence}; the loss never diverged: try a larger end_lr"
    )


def write_page(search: LRSearch, path: Path, title: str = "") -> None:
    """Write the page: one file that asks the network for nothing.

    Args:
        search: What :func:`find_lr` returned.
        path: Its folder is made where there is none; an earlier file is replaced.
        title: What was searched for.

    Raises:
        UsageError: The file cannot be written.
    """
    from markupsafe import Markup

    curve = {
        "lrs": search.lrs,
        "losses": search.losses,
        "raw": [loss if math.isfinite(loss) else None for loss in search.raw_losses],
        "suggestion": search.suggestion,
    }
    data = json.dumps({"curve": curve, "config": PLOTLY_CONFIG}, allow_nan=False)
    text = page_template(TEMPLATE).render(
        title=title,
        verdict=verdict(search),
        # A "<" can only stand within a string there; escaped, it can end no element.
        data=Markup(data.replace("<", "\\u003c")),
        plotly_js=plotly_js(),
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(text.encode(), path.parent, path.name, durable=False)
    except OSError as error:
        raise UsageError(f"cannot write {path}: {error.strerror}") from error
