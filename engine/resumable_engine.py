"""An epoch that is left in the middle of its end, and taken up again there."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable
from typing import Any
from weakref import ReferenceType

from ignite.engine import Engine, Events

from engine.events import OrderedEngine


class ResumableEngine(OrderedEngine):
    """An engine whose run can end between two handlers of ``EPOCH_COMPLETED``, and continue there.

    Validation runs in a handler of that event, and may take long. Where it is cut off, nothing
    may be decided on half of it, and what the handlers before it did must not be done twice.

    Attributes:
        state.open_epoch: None, or for the epoch that was left open the names of the handlers
            that had run; to be saved and restored with the state.
    """

    def __init__(self, process_function: Callable[..., Any]) -> None:
        super().__init__(process_function)
        self.state.open_epoch = None
        self._handler_was_cut = False

    def leave_epoch_open(self) -> None:
        """Say, while a handler of ``EPOCH_COMPLETED`` runs, that it was cut off.

        The run ends after that handler, before the later ones, which rely on it. A run that
        continues from there enters the epoch once more, trains on none of its batches, and goes
        on with that handler.
        """
        self._handler_was_cut = True

    def epochs_done(self) -> int:
        """Epochs whose every batch is trained on and whose every handler has run."""
        state = self.state
        done: int = state.iteration // (state.epoch_length or 1)
        return done if state.open_epoch is None else done - 1

    def _before_open_epoch(self) -> None:
        """Called when an open epoch was entered once more."""

    def _fire_epoch_completed(self) -> None:
        event = self.last_event_name = Events.EPOCH_COMPLETED
        had_run = Counter(self.state.open_epoch)
        self.state.open_epoch = None
        done: list[Callable[..., Any]] = []
        for handler, args, kwargs in self._event_handlers[event]:
            if had_run and had_run[_name_of(handler)]:
                had_run[_name_of(handler)] -= 1
            else:
                self._handler_was_cut = False
                # A weak reference to the engine stands first where the handler takes it.
                takes_engine = bool(args) and type(args[0]) is ReferenceType
                handler(*((self, *args[1:]) if takes_engine else args), **kwargs)
                if self._handler_was_cut:
                    self.state.open_epoch = [_name_of(each) for each in done]
                    self.terminate()
                    Engine._maybe_terminate_legacy(self)
            done.append(handler)

    # Ignite asks these whether the run is over, for the batches' iterator, and to go through them.

    @staticmethod
    def _is_done(state: Any) -> bool:
        return state.open_epoch is None and Engine._is_done(state)

    def _setup_engine(self) -> None:
        if self.state.open_epoch is None:
            super()._setup_engine()

    def _run_once_on_dataset_legacy(self) -> float:
        if self.state.open_epoch is None:
            return super()._run_once_on_dataset_legacy()
        self._before_open_epoch()
        return 0.0


def _name_of(handler: Callable[..., Any]) -> str:
    """What a handler is called, the same in every process."""
    handler = inspect.unwrap(handler)  # a filter, or a phase of its own, wraps it
    owner = getattr(handler, "__self__", None)
    if owner is not None:
        return f"{type(owner).__name__}.{handler.__name__}"
    return str(getattr(handler, "__qualname__", type(handler).__name__))
