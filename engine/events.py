"""The training loop's events, the phases that order handlers, and engines built on Ignite's.

All private names of Ignite that this project overrides are overridden here.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections import Counter
from collections.abc import Callable
from enum import IntEnum
from typing import Any, TypeVar
from weakref import ReferenceType

from ignite.engine import Engine, Events
from ignite.engine.events import EventEnum, RemovableEventHandle

AnyHandler = TypeVar("AnyHandler", bound=Callable[..., Any])

# Ignite logs an exception before it raises it again, which without a set-up of logging would be
# printed beside the one line, or the traceback, that whoever catches it shows.
logging.getLogger("ignite").addHandler(logging.NullHandler())


class TrainEvents(EventEnum):
    """What the training loop fires beside Ignite's own ``Events``.

    The loop, with each event where it fires::

        for epoch in range(max_epochs):                     # Events.EPOCH_STARTED
            for batch in loader:                            # Events.ITERATION_STARTED
                batch = batch.to(device)
                BATCH_READY                                 # state.batch
                outputs = model(batch.spectra, batch.mask, batch.tabular)
                FORWARD_COMPLETED                           # state.outputs
                losses = loss(outputs, batch.target)
                LOSS_COMPLETED                              # state.losses, total_loss among them
                (batch_weight * losses["total_loss"]).backward()
                BACKWARD_COMPLETED                          # this micro-batch's gradients are added
                if the accumulation window is whole:
                    GRADIENTS_READY                         # unscaled; state.skip_step vetoes
                    optimizer.step()
                    OPTIMIZER_STEPPED                       # state.optimizer_step counts
                                                            # Events.ITERATION_COMPLETED
                                                            # Events.EPOCH_COMPLETED

    ``LOG_EVENT`` stands outside the loop: something worth writing down happened (a checkpoint
    was saved, training stops early); ``state.notice`` holds it as a dict with the key ``event``.

    ``state.batch_weight`` is the micro-batch's share of its optimizer step
    (:class:`engine.optim.StepShares`); None where it is the whole step. Several processes
    have to agree on ``state.skip_step``, as they do where it is decided by the gradients alone,
    which all have in common. A step that the device itself leaves out (an overflow of fp16 on a
    GPU) fires ``OPTIMIZER_STEPPED`` all the same, and is taken back a few steps later
    (:class:`engine.optim.LeftOutSteps`).

    Each may be filtered like Ignite's: ``TrainEvents.OPTIMIZER_STEPPED(every=100)`` counts
    optimizer steps, the others count iterations.
    """

    BATCH_READY = "batch_ready"
    FORWARD_COMPLETED = "forward_completed"
    LOSS_COMPLETED = "loss_completed"
    BACKWARD_COMPLETED = "backward_completed"
    GRADIENTS_READY = "gradients_ready"
    OPTIMIZER_STEPPED = "optimizer_stepped"
    LOG_EVENT = "notice"


class Phase(IntEnum):
    """When a handler runs among the handlers of one event: lower first.

    A handler declares it with a class attribute ``phase``, or for one method with
    :func:`in_phase`; equal phases keep the order of attaching.
    """

    PREPARE = 10  # set something up that the others rely on (freezing, augmentation)
    GUARD = 20  # look at the gradients as they come, veto a bad step
    GRADIENTS = 30  # change the gradients (clipping)
    UPDATE = 40  # follow the weights (EMA, learning rate)
    MEASURE = 50  # metrics, validation
    USER = 60  # functions that declare nothing
    DECIDE = 70  # act on the metrics (plateau, early stopping)
    RECORD = 80  # write down what is now known (log, TensorBoard, progress)
    SAVE = 90  # checkpoints, after all the state of this event is settled
    REPORT = 100  # pages made from what was written


def in_phase(phase: Phase) -> Callable[[AnyHandler], AnyHandler]:
    """Declare the phase of one function or method.

    Args:
        phase: Where it runs among the handlers of its event.

    Returns:
        A decorator that leaves the function as it is.

    Example:
        >>> @in_phase(Phase.RECORD)
        ... def write_down(engine): ...
        >>> phase_of(write_down).name
        'RECORD'
    """

    def declare(handler: AnyHandler) -> AnyHandler:
        handler.phase = phase  # type: ignore[attr-defined]
        return handler

    return declare


def phase_of(handler: Callable[..., Any]) -> Phase:
    """The declared phase of a function, a method (its own, else its object's) or an object."""
    own = getattr(handler, "phase", None)
    if own is None:
        own = getattr(getattr(handler, "__self__", None), "phase", None)
    return Phase.USER if own is None else Phase(own)


class OrderedEngine(Engine):
    """An Ignite engine whose handlers run in their declared order, at no cost where none listen."""

    # The resumable generator form of the run costs time at each event and is not needed here:
    # a cut run is continued from a checkpoint.
    interrupt_resume_enabled = False
    # Ignite's State, to which the loop and the handlers add attributes of their own.
    state: Any

    def add_event_handler(
        self,
        event_name: Any,
        handler: Callable[..., Any],
        *args: Any,
        phase: Phase | None = None,
        **kwargs: Any,
    ) -> RemovableEventHandle:
        """Attach a handler in its phase.

        Args:
            event_name: One event, a filtered one, or several joined by ``|``.
            handler: Called with the engine (if it takes it), ``args`` and ``kwargs``.
            *args: Passed on to the handler.
            phase: Overrides the handler's declared phase.
            **kwargs: Passed on to the handler.

        Returns:
            The handle that can remove it again.
        """
        if not hasattr(event_name, "filter"):  # events joined by |: Ignite adds one by one
            for single in event_name:
                self.add_event_handler(single, handler, *args, phase=phase, **kwargs)
            return RemovableEventHandle(event_name, handler, self)
        wanted = phase_of(handler) if phase is None else phase
        super().add_event_handler(event_name, handler, *args, **kwargs)
        attached = self._event_handlers[event_name]
        registered, call_args, call_kwargs = attached.pop()
        if phase_of(registered) != wanted:
            registered = _carry_phase(registered, wanted)
        if registered is not handler and hasattr(registered, "__wrapped__"):
            # Ignite finds a filtered handler again by a weak reference, which for a bound
            # method is dead at once, so that it could never be removed.
            registered._parent = lambda: handler
        # A new list, so that attaching while the event fires does not disturb its walk.
        self._event_handlers[event_name] = sorted(
            [*attached, (registered, call_args, call_kwargs)], key=lambda entry: phase_of(entry[0])
        )
        return RemovableEventHandle(event_name, handler, self)

    def _fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        # Ignite's own words a log line for each event, shown or not: that took longer than most
        # handlers do.
        if event_name is Events.EPOCH_COMPLETED:
            self._fire_epoch_completed()
            return
        self.last_event_name = event_name
        for handler, args, kwargs in self._event_handlers.get(event_name, ()):
            # A weak reference to the engine stands first where the handler takes it.
            if args and type(args[0]) is ReferenceType:
                handler(self, *event_args, *args[1:], **kwargs, **event_kwargs)
            else:
                handler(*event_args, *args, **kwargs, **event_kwargs)

    def _fire_epoch_completed(self) -> None:
        """Fire the one event that an engine may leave in its middle, and take up again."""
        super()._fire_event(Events.EPOCH_COMPLETED)


def _carry_phase(handler: Callable[..., Any], phase: Phase) -> Callable[..., Any]:
    """The same handler as a function of its own that can hold the phase."""

    @functools.wraps(handler)
    def in_its_phase(*args: Any, **kwargs: Any) -> Any:
        return handler(*args, **kwargs)

    in_its_phase.phase = phase  # type: ignore[attr-defined]
    return in_its_phase


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
