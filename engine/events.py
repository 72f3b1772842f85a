"""The training loop's events, the phases that order handlers, and the engines built on Ignite.

Every private name of Ignite's engine that this project overrides or reads is in this module:
``_event_handlers``, ``_fire_event``, ``_parent`` (of a filtered handler), ``_is_done``,
``_maybe_terminate_legacy``, ``_run_once_on_dataset_legacy`` and ``_setup_engine``.
"""

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

# Ignite logs an exception before it raises it again. Without a logging configuration Python would
# print that line beside the one that the caller shows.
logging.getLogger("ignite").addHandler(logging.NullHandler())


class TrainEvents(EventEnum):
    """Events of the training loop beside Ignite's own ``Events``.

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
                if sync_gradients:                          # the last micro-batch of the step
                    GRADIENTS_READY                         # unscaled; state.skip_step vetoes
                    optimizer.step()
                    OPTIMIZER_STEPPED                       # state.optimizer_step counts
                                                            # Events.ITERATION_COMPLETED
                                                            # Events.EPOCH_COMPLETED

    ``LOG_EVENT`` fires outside the loop, for what is worth recording (a checkpoint was saved,
    training stops early): ``state.notice`` is a dict with the key ``event``.

    ``state.batch_weight`` is the micro-batch's share of its optimizer step
    (:class:`engine.optim.StepShares`), None for the whole step. All ranks must agree on
    ``state.skip_step``. A step that the device skips (fp16 overflow on a GPU) fires
    ``OPTIMIZER_STEPPED`` and is subtracted a few steps later (:class:`engine.optim.LeftOutSteps`).

    Filters work as for Ignite's events: ``TrainEvents.OPTIMIZER_STEPPED(every=100)`` counts
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
    """When a handler runs among those of one event: lower first, equal ones as they were attached.

    A handler declares it with a class attribute ``phase``, or for one method with :func:`in_phase`.
    """

    PREPARE = 10  # set up what other handlers rely on (freezing, augmentation)
    GUARD = 20  # inspect gradients, veto a bad step
    GRADIENTS = 30  # change gradients (clipping)
    UPDATE = 40  # follow the weights (EMA, learning rate)
    MEASURE = 50  # metrics, validation
    USER = 60  # functions without a declared phase
    DECIDE = 70  # act on metrics (plateau, early stopping)
    RECORD = 80  # log, TensorBoard, progress
    SAVE = 90  # checkpoints, after all state of this event is final
    REPORT = 100  # pages made from what was recorded


def in_phase(phase: Phase) -> Callable[[AnyHandler], AnyHandler]:
    """Declare the phase of one function or method."""

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
    """An Ignite engine that runs handlers in the order of their phases."""

    # Ignite's resumable generator costs time at each event; runs resume from checkpoints instead.
    interrupt_resume_enabled = False
    # Ignite's State, to which the loop and the handlers add attributes.
    state: Any

    def add_event_handler(
        self,
        event_name: Any,
        handler: Callable[..., Any],
        *args: Any,
        phase: Phase | None = None,
        **kwargs: Any,
    ) -> RemovableEventHandle:
        """Attach a handler in its phase; ``phase`` overrides the declared one."""
        if not isinstance(event_name, str) and not hasattr(event_name, "filter"):
            # Events joined by |: Ignite adds one by one.
            for single in event_name:
                self.add_event_handler(single, handler, *args, phase=phase, **kwargs)
            return RemovableEventHandle(event_name, handler, self)
        wanted = phase_of(handler) if phase is None else phase
        super().add_event_handler(event_name, handler, *args, **kwargs)
        attached = self._event_handlers[event_name]
        registered, call_args, call_kwargs = attached.pop()
        if phase_of(registered) != wanted:
            registered = functools.update_wrapper(functools.partial(registered), registered)
            registered.phase = wanted  # type: ignore[attr-defined]
        if registered is not handler and hasattr(registered, "__wrapped__"):
            # Ignite finds a filtered handler by a weak reference. A bound method's is dead at
            # once, so that the handler could never be removed.
            registered._parent = lambda: handler
        # A new list, so that attaching while the event fires does not disturb the iteration.
        self._event_handlers[event_name] = sorted(
            [*attached, (registered, call_args, call_kwargs)], key=lambda entry: phase_of(entry[0])
        )
        return RemovableEventHandle(event_name, handler, self)

    def fire_event(self, event_name: Any, *event_args: Any, **event_kwargs: Any) -> None:
        """Call an event's handlers, without Ignite's log line, which takes longer than most."""
        if event_name is Events.EPOCH_COMPLETED:
            self._fire_epoch_completed()
            return
        self.last_event_name = event_name
        for handler, args, kwargs in self._event_handlers.get(event_name, ()):
            # A weak reference to the engine is the first argument where the handler takes it.
            if args and type(args[0]) is ReferenceType:
                handler(self, *event_args, *args[1:], **kwargs, **event_kwargs)
            else:
                handler(*event_args, *args, **kwargs, **event_kwargs)

    _fire_event = fire_event  # the name by which Ignite's loop fires

    def _fire_epoch_completed(self) -> None:
        Engine._fire_event(self, Events.EPOCH_COMPLETED)


class ResumableEngine(OrderedEngine):
    """An engine whose run can end between two handlers of ``EPOCH_COMPLETED`` and resume there.

    If a long one (validation) is interrupted, the handlers after it must not act on half of it, and
    those before it must not run twice. ``state.open_epoch`` holds the names of those that had run,
    or None; it is saved and restored.
    """

    def __init__(self, process_function: Callable[..., Any]) -> None:
        super().__init__(process_function)
        self.state.open_epoch = None
        self._handler_was_cut = False

    def leave_epoch_open(self) -> None:
        """Tell the engine, from a handler of ``EPOCH_COMPLETED``, that it was interrupted.

        The run ends after that handler. A resumed run continues with it, without training.
        """
        self._handler_was_cut = True

    def epochs_done(self) -> int:
        """Epochs of which all batches are trained on and all handlers have run."""
        state = self.state
        done: int = state.iteration // (state.epoch_length or 1)
        return done if state.open_epoch is None else done - 1

    def _before_open_epoch(self) -> None:
        """Called when an open epoch is entered again."""

    def _may_stop_here(self) -> bool:
        """Whether a run told to terminate may end after the last event."""
        return True

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
                takes_engine = bool(args) and type(args[0]) is ReferenceType
                handler(*((self, *args[1:]) if takes_engine else args), **kwargs)
                if self._handler_was_cut:
                    self.state.open_epoch = [_name_of(each) for each in done]
                    self.terminate()
                    Engine._maybe_terminate_legacy(self)
            done.append(handler)

    def _maybe_terminate_legacy(self) -> None:
        # Ignite asks here after every event whether terminate() was called.
        if (self.should_terminate and self._may_stop_here()) or self.should_terminate_single_epoch:
            super()._maybe_terminate_legacy()

    @staticmethod
    def _is_done(state: Any) -> bool:
        return state.open_epoch is None and Engine._is_done(state)

    def _setup_engine(self) -> None:  # makes the iterator over the batches
        if self.state.open_epoch is None:
            super()._setup_engine()

    def _run_once_on_dataset_legacy(self) -> float:
        if self.state.open_epoch is None:
            return super()._run_once_on_dataset_legacy()
        self._before_open_epoch()
        return 0.0


def _name_of(handler: Callable[..., Any]) -> str:
    """A handler's name, the same in every process."""
    handler = inspect.unwrap(handler)  # a filter, or an overridden phase, wraps it
    owner = getattr(handler, "__self__", None)
    if owner is not None:
        return f"{type(owner).__name__}.{handler.__name__}"
    return str(getattr(handler, "__qualname__", type(handler).__name__))
