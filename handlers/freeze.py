"""Parts of the model that are not trained, or only from some epoch on."""

import math
from collections.abc import Mapping, Sequence

from ignite.engine import Events
from torch import nn

from datasets.errors import UsageError
from datasets.specs import optional_whole, require_whole
from engine.events import Phase
from engine.optim import fill_momentum, matches, refuse_unmatched
from engine.trainer import Trainer

NEVER = math.inf


class Freeze:
    """Freezes parameters by name, for good or until an epoch.

    A pattern is the name of a parameter, the name of a module (all that is in it), or either with
    the wildcards ``*``, ``?`` and ``[...]``, where ``*`` matches dots too. A norm with running
    statistics is in evaluation mode while all its parameters are frozen; one without parameters is
    matched by its own name. Dropout in a frozen part goes on.

    ``patterns`` are frozen until ``until_epoch``, in which their training begins, or for good;
    those of ``unfreeze`` until the epoch that it maps them to. Where several match, the earliest
    epoch of ``unfreeze`` counts, before ``until_epoch``. Announces ``frozen`` and ``unfrozen``.

    Example::

        trainer.attach(Freeze(["encoder"], unfreeze={"encoder.blocks.3": 5, "encoder": 10}))
    """

    phase = Phase.PREPARE

    def __init__(
        self,
        patterns: Sequence[str] | str = (),
        until_epoch: int | None = None,
        unfreeze: Mapping[str, int] | None = None,
    ) -> None:
        self.patterns = [patterns] if isinstance(patterns, str) else list(patterns)
        self.unfreeze = dict(unfreeze or {})
        if not self.patterns and not self.unfreeze:
            raise UsageError("freeze.patterns: name at least one parameter or module")
        for pattern, epoch in self.unfreeze.items():
            self.unfreeze[pattern] = require_whole(f"freeze.unfreeze.{pattern}", epoch, 1)
        self.until_epoch = optional_whole("freeze.until_epoch", until_epoch, 1) or NEVER
        # Each with the epoch in which its training begins.
        self._parameters: list[tuple[nn.Parameter, float]] = []
        self._norms: list[tuple[nn.Module, float]] = []

    def attach(self, trainer: Trainer) -> None:
        """Find the matching parameters and listen to epochs; UsageError if one matches nothing."""
        model = trainer.model
        # A parameter that is shared has several names, of which any may match.
        named = list(model.named_parameters(remove_duplicate=False))
        # Running statistics move in a forward pass, without any gradient.
        modules = model.named_modules()
        norms = [(n, m) for n, m in modules if getattr(m, "running_mean", None) is not None]
        names = [*(name for name, _ in named), *(name for name, _ in norms)]
        refuse_unmatched([*self.patterns, *self.unfreeze], names, model, "freeze")

        begins: dict[nn.Parameter, float] = {}
        for name, parameter in named:
            epoch = self._begin(name)
            if epoch is not None:
                begins[parameter] = max(epoch, begins.get(parameter, 0))
        self._parameters = list(begins.items())
        for name, norm in norms:
            own = list(norm.parameters())
            epochs = [begins.get(p) for p in own] if own else [self._begin(name)]
            frozen = [epoch for epoch in epochs if epoch is not None]
            if len(frozen) == len(epochs):
                self._norms.append((norm, min(frozen)))

        if all(begins.get(p, 0) > 1 for _, p in named if p.requires_grad):
            raise UsageError("freeze.patterns match all parameters: nothing is left to train")
        optimised = {p for group in trainer.optimizer.param_groups for p in group["params"]}
        for name, parameter in named:
            if begins.get(parameter, NEVER) < NEVER and parameter not in optimised:
                raise UsageError(
                    f"freeze: {name} is to be trained from epoch {begins[parameter]} on, but the "
                    "optimizer was built without it"
                )
        trainer.add_event_handler(Events.EPOCH_STARTED, self)

    def __call__(self, trainer: Trainer) -> None:
        """Freeze and unfreeze the parameters of this epoch."""
        state = trainer.state
        epoch = state.epoch
        for parameter, begin in self._parameters:
            parameter.requires_grad_(epoch >= begin)
        for norm, begin in self._norms:
            norm.train(epoch >= begin)
        released = sum(begin == epoch for _, begin in self._parameters)
        if released:
            fill_momentum(trainer.optimizer)
        # An epoch that is resumed in its middle begins a second time, and was logged.
        if state.iteration != (epoch - 1) * state.epoch_length:
            return
        if epoch == 1:
            frozen = sum(begin > epoch for _, begin in self._parameters)
            patterns = list(dict.fromkeys([*self.patterns, *self.unfreeze]))
            trainer.log_event("frozen", epoch=epoch, patterns=patterns, parameters=frozen)
        elif released:
            patterns = [pattern for pattern, begin in self.unfreeze.items() if begin == epoch]
            patterns += self.patterns if self.until_epoch == epoch else []
            trainer.log_event("unfrozen", epoch=epoch, patterns=patterns, parameters=released)

    def _begin(self, name: str) -> float | None:
        """The epoch in which the training of a name begins; None where no pattern matches it."""
        epochs = [epoch for pattern, epoch in self.unfreeze.items() if matches(pattern, name)]
        if epochs:
            return min(epochs)
        matched = any(matches(pattern, name) for pattern in self.patterns)
        return self.until_epoch if matched else None
