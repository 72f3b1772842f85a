"""A weighted sum of losses: a main one, auxiliary ones, regularisation."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from datasets.errors import UsageError, nearest
from datasets.specs import require_range
from engine.losses.inputs import Outputs, find_output, has_output
from engine.metrics import RESERVED
from engine.model_call import call_loss

TOTAL = "total_loss"


@dataclass(frozen=True)
class Term:
    """One term of a :class:`WeightedLoss`: ``weight`` times the loss's ``total_loss``.

    ``on`` is the output to read in place of the loss's own (``logits``, or its ``reads``). An
    ``optional`` term is left out if the model does not return its input.
    """

    loss: nn.Module
    weight: float = 1.0
    on: str | None = None
    optional: bool = False


class WeightedLoss(nn.Module):
    """The sum of weight x term; a loss in place of a :class:`Term` has weight 1.

    Each term is returned, and logged, unweighted under its name.

    Example:
        >>> import torch
        >>> from engine.losses import CrossEntropy
        >>> aux = Term(CrossEntropy(), weight=0.5, on="aux_logits_spec")
        >>> loss = WeightedLoss({"main_loss": CrossEntropy(), "aux_spec_loss": aux})
        >>> outputs = {"logits": torch.zeros(1, 2), "aux_logits_spec": torch.zeros(1, 2)}
        >>> terms = loss(outputs, torch.tensor([1]))
        >>> {name: round(value.item(), 4) for name, value in terms.items()}
        {'total_loss': 1.0397, 'main_loss': 0.6931, 'aux_spec_loss': 0.6931}
    """

    def __init__(self, terms: Mapping[str, Term | nn.Module]) -> None:
        super().__init__()
        if not isinstance(terms, Mapping) or not terms:
            raise UsageError("weighted: terms must map at least one name to a loss")
        given = terms.items()
        self.terms = {name: t if isinstance(t, Term) else Term(t) for name, t in given}
        for name, term in self.terms.items():
            _check(name, term)
        if not any(term.weight for term in self.terms.values()):
            raise UsageError("weighted: the weights of all terms are 0")
        # As modules, so that class weights move to the device with the loss.
        self.losses = nn.ModuleList(term.loss for term in self.terms.values())
        # Those whose mean is divided by a sum of class weights.
        each: dict[str, Any] = {name: term.loss for name, term in self.terms.items()}
        self._weighted = {n: loss for n, loss in each.items() if getattr(loss, "weighted", False)}
        self.weighted = bool(self._weighted)

    def forward(self, outputs: Outputs, targets: Tensor, aux: Any = None) -> dict[str, Tensor]:
        """``total_loss`` and each term, scalars; UsageError if the model lacks a term's input."""
        values: dict[str, Tensor] = {}
        for name, term in self.terms.items():
            if term.optional and not _readable(term, outputs):
                continue
            read = outputs
            if term.on is not None:
                read = {**outputs, _reads(term.loss): find_output(outputs, term.on)}
            values[name] = call_loss(term.loss, read, targets, aux)[TOTAL]
        if not any(self.terms[name].weight for name in values):
            unread = "the model returns nothing that a term of a weight above 0 reads"
            raise UsageError(f"weighted: {unread}{nearest('', outputs)}")
        return {TOTAL: self.total(values), **values}

    def total(self, terms: Mapping[str, Any]) -> Any:
        """The weighted sum of the given terms: tensors of one shape, or numbers."""
        # A term of weight 0 is logged, but has no part: zero times infinity would be NaN.
        parts = [value * self.terms[n].weight for n, value in terms.items() if self.terms[n].weight]
        return sum(parts[1:], start=parts[0])

    def denominators(self, targets: Tensor, aux: Any = None) -> dict[str, Tensor]:
        """What a term's mean is divided by, if not by the number of samples."""
        each = {name: loss.denominators(targets, aux) for name, loss in self._weighted.items()}
        return {name: own[TOTAL] for name, own in each.items() if TOTAL in own}


def _check(name: str, term: Term) -> None:
    if not isinstance(name, str) or not re.fullmatch(r"\w+", name):
        raise UsageError(f"weighted: {name!r} cannot be a term's name; letters, digits and _ can")
    if name in RESERVED:
        taken = f"a term cannot be called '{name}', which is logged already"
        raise UsageError(f"weighted: {taken}; '{name}_term' could be its name")
    require_range(f"weighted: weight of '{name}'", term.weight, 0, math.inf)
    if term.on is not None and _reads(term.loss) is None:
        raise UsageError(f"weighted: '{name}' compares two outputs; 'on' cannot replace them")


def _reads(loss: nn.Module) -> Any:
    """The output that a loss reads; None for several."""
    return getattr(loss, "reads", "logits")


def _readable(term: Term, outputs: Outputs) -> bool:
    can_read: Any = getattr(term.loss, "can_read", None)
    if can_read is not None:
        return bool(can_read(outputs))
    return has_output(outputs, term.on or _reads(term.loss))
