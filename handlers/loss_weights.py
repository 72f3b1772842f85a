"""Weights of a loss's terms that change during training."""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from datasets.errors import UsageError, nearest
from datasets.specs import require_choice, require_number, require_whole
from engine.events import Phase, TrainEvents, in_phase
from engine.trainer import Trainer

UNCERTAINTY = "uncertainty"
SHAPES = ("linear", "cosine")
RAMP_KEYS = ("start", "end", "epochs", "first_epoch", "shape")
TOTAL = "total_loss"


@dataclass(frozen=True)
class Ramp:
    """A weight that goes from ``start`` in ``first_epoch`` to ``end`` in ``epochs`` epochs."""

    start: float
    end: float
    epochs: int = 1
    first_epoch: int = 1
    shape: str = "linear"

    def at(self, epoch: int) -> float:
        """The weight in an epoch, 1-based."""
        done = min(max((epoch - self.first_epoch) / self.epochs, 0.0), 1.0)
        share = done if self.shape == "linear" else 0.5 * (1 - math.cos(math.pi * done))
        return self.start * (1 - share) + self.end * share


class LossWeights:
    """Sums the training's total loss from its terms, with weights that change.

    Before the backward pass ``total_loss`` becomes the sum of weight x term over the listed terms,
    in place of the loss's own sum: a term that is not listed is only logged. Evaluation keeps the
    loss's own total, which stays comparable from epoch to epoch. A weight is

    - a number;
    - a mapping with ``start``, ``end``, ``epochs`` and optional ``first_epoch`` (1) and ``shape``
      (``linear`` or ``cosine``): see :class:`Ramp`;
    - ``uncertainty``: learned. It adds ``exp(-s) * term + s`` to the total, where s, the logarithm
      of the term's variance, begins at 0 and is in the optimizer's group ``loss_weights``, without
      decay (Kendall, Gal and Cipolla 2018, "Multi-Task Learning Using Uncertainty to Weigh
      Losses": a Gaussian likelihood, times two). Its learning rate is ``lr``, by default the
      optimizer's.

    At an epoch's end ``state.metrics["train/weight_<term>"]`` is the weight (``exp(-s)``).

    Args:
        loss_terms: Names of the loss's terms, where they are known before training.

    Example:
        >>> ramp = {"start": 0.0, "end": 0.1, "epochs": 10}
        >>> LossWeights({"main_loss": 1.0, "contrastive_loss": ramp}).weights_in(epoch=6)
        {'main_loss': 1.0, 'contrastive_loss': 0.05}
    """

    phase = Phase.PREPARE

    def __init__(
        self,
        weights: Mapping[str, float | Mapping[str, Any] | str],
        lr: float | None = None,
        loss_terms: Sequence[str] | None = None,
    ) -> None:
        if not isinstance(weights, Mapping) or not weights:
            raise UsageError("loss_weights.weights must map at least one term to its weight")
        self.ramps: dict[str, Ramp] = {}
        self.learned: list[str] = []
        for term, weight in weights.items():
            if term == TOTAL:
                raise UsageError(f"loss_weights.weights: {TOTAL} is what the terms are summed to")
            if weight == UNCERTAINTY:
                self.learned.append(term)
            else:
                self.ramps[term] = _ramp(f"loss_weights.weights.{term}", weight)
        self.lr = None if lr is None else require_number("loss_weights.lr", lr)
        last = max((ramp.first_epoch + ramp.epochs for ramp in self.ramps.values()), default=1)
        for epoch in range(1, last + 1):
            if not self.learned and not any(self.weights_in(epoch).values()):
                raise UsageError(f"loss_weights.weights: all are zero in epoch {epoch}")
        self._log_variances: dict[str, nn.Parameter] = {}
        self._now: dict[str, float] = {}
        self._checked = False
        if loss_terms is not None:
            self._check_terms(loss_terms)

    def attach(self, trainer: Trainer) -> None:
        """Listen to losses and epochs; add the learned weights to the optimizer."""
        for term in self.learned:
            self._log_variances[term] = nn.Parameter(torch.zeros((), device=trainer.device))
        if self.learned:
            optimizer = trainer.optimizer
            rate = optimizer.defaults["lr"] if self.lr is None else self.lr
            optimizer.add_param_group(
                {
                    "name": "loss_weights",
                    "params": list(self._log_variances.values()),
                    "lr": rate,
                    "weight_decay": 0.0,
                    # A schedule that was attached before expects each group's full rate.
                    "initial_lr": float(rate),
                }
            )
        trainer.register_state("loss_weights", self)
        trainer.total = torch.no_grad()(self.total)
        terms = (*self.ramps, *self.learned)
        trainer.provide_metrics(*(f"train/weight_{term}" for term in terms))
        trainer.add_event_handler(Events.EPOCH_STARTED, self.start_epoch)
        trainer.add_event_handler(TrainEvents.LOSS_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.report)

    def weights_in(self, epoch: int) -> dict[str, float]:
        """The weights in an epoch, 1-based, without the learned ones."""
        return {term: ramp.at(epoch) for term, ramp in self.ramps.items()}

    def start_epoch(self, trainer: Trainer) -> None:
        """Move the weights."""
        self._now = self.weights_in(trainer.state.epoch)

    def __call__(self, trainer: Trainer) -> None:
        """Sum the terms."""
        losses = trainer.state.losses
        if not self._checked:
            self._check_terms(losses)
        trainer.state.losses = {**losses, TOTAL: self.total(losses, trainer.step_shares.factor_of)}

    def total(self, terms: Mapping[str, Any], factor_of: Callable[[str], Any] | None = None) -> Any:
        """The weighted sum of the listed terms: tensors, or numbers.

        ``factor_of`` a term is how much more it counts in its step than the total
        (:meth:`engine.optim.StepShares.factor_of`): corrects the gradients of the learned weights.
        """
        # A term of weight zero is left out: zero times infinity would be NaN.
        parts = [terms[term] * weight for term, weight in self._now.items() if weight]
        for term, learned in self._log_variances.items():
            value = terms[term]
            # An epoch's losses are on the CPU; within a step both are on the device.
            s = learned.to(value.device) if isinstance(value, Tensor) else learned
            precision, factor = torch.exp(-s), factor_of and factor_of(term)
            if factor is not None:
                precision.register_hook(factor.mul)
            parts.append(value * precision + s)
        return sum(parts[1:], start=parts[0])

    @in_phase(Phase.MEASURE)
    def report(self, trainer: Trainer) -> None:
        """Put the weights beside the metrics."""
        learned = {term: float(torch.exp(-s.detach())) for term, s in self._log_variances.items()}
        for term, weight in {**self._now, **learned}.items():
            trainer.state.metrics[f"train/weight_{term}"] = weight

    def _check_terms(self, losses: Iterable[str]) -> None:
        for term in (*self.ramps, *self.learned):
            if term not in losses:
                choices = nearest(term, [name for name in losses if name != TOTAL])
                raise UsageError(f"loss_weights.weights: the loss has no term '{term}'{choices}")
        self._checked = True

    def state_dict(self) -> dict[str, Any]:
        """The learned logarithms of variances; the rest follows from the epoch."""
        return {"log_variances": {term: s.detach() for term, s in self._log_variances.items()}}

    @torch.no_grad()
    def load_state_dict(self, state_dict: Mapping[str, Any]) -> None:
        """Continue learning; ValueError if other terms' weights were learned."""
        saved = state_dict["log_variances"]
        if saved.keys() != self._log_variances.keys():
            raise ValueError(f"it had learned the weights of: {', '.join(saved) or 'no term'}")
        for term, s in self._log_variances.items():
            s.copy_(saved[term])


def _ramp(name: str, weight: object) -> Ramp:
    if not isinstance(weight, Mapping):
        constant = require_number(f"{name}, unless a mapping or {UNCERTAINTY}", weight)
        return Ramp(constant, constant)
    for key in weight:
        if key not in RAMP_KEYS:
            raise UsageError(f"{name}: '{key}' is unknown{nearest(key, RAMP_KEYS)}")
    start, end = (require_number(f"{name}.{key}", weight.get(key)) for key in ("start", "end"))
    epochs = require_whole(f"{name}.epochs", weight.get("epochs", 1), 1)
    first = require_whole(f"{name}.first_epoch", weight.get("first_epoch", 1), 1)
    if "epochs" not in weight:
        raise UsageError(f"{name}.epochs is missing: in how many epochs it goes to its end")
    shape = require_choice(f"{name}.shape", weight.get("shape", "linear"), SHAPES)
    return Ramp(start, end, epochs, first, shape)
