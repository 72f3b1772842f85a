"""From the ``loss`` section to a loss, its terms by name where it has some."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from torch import Tensor, nn

from datasets.errors import UsageError
from engine.losses import FITTING, LOSSES, Term, WeightedLoss, fill_balanced
from experiments.config import TermConfig, construct, find_named, one_line

# Parameters that may be one number for each class or label.
ONE_EACH = ("class_weights", "pos_weight", "alpha")


def build_loss(
    name: str,
    params: Mapping[str, Any],
    task: str,
    targets: Tensor,
    num_classes: int,
    key: str = "loss",
) -> nn.Module:
    """Build a configured loss.

    Args:
        name: A key of ``LOSSES``, or a dotted path.
        params: Its parameters; ``terms`` of ``weighted`` map a name to ``{name, weight, on,
            optional, params}``, or to the name of a loss alone.
        task: A key of ``TASKS``.
        targets: Of the training part, for what is ``balanced``.
        num_classes: C: classes, labels or values.
        key: The configuration key of the loss, for errors.

    Raises:
        UsageError: A name or a parameter is wrong, or the loss does not fit the task.
    """
    cls = find_named(name, LOSSES, f"{key}.name")
    fitting = [known for known, tasks in FITTING.items() if task in tasks]
    if name in FITTING and name not in fitting:
        raise UsageError(
            f"{key}.name: '{name}' does not fit task '{task}' (choices: {', '.join(fitting)})"
        )
    params = fill_balanced(params, targets, num_classes)
    for parameter in ONE_EACH:
        given = params.get(parameter)
        if isinstance(given, Sequence) and not isinstance(given, str) and len(given) != num_classes:
            raise UsageError(
                f"{key}.params.{parameter}: {len(given)} numbers given, {num_classes} are needed"
            )
    if cls is WeightedLoss and isinstance(params.get("terms"), Mapping):
        params["terms"] = {
            term: _build_term(spec, f"{key}.params.terms.{term}", task, targets, num_classes)
            for term, spec in params["terms"].items()
        }
    loss: nn.Module = construct(cls, params, f"{key}.params")
    return loss


def _build_term(spec: Any, key: str, task: str, targets: Tensor, num_classes: int) -> Term:
    try:
        term = TermConfig.model_validate(spec)
    except ValidationError as error:
        raise UsageError(one_line(error, spec, TermConfig, key)) from error
    loss = build_loss(term.name, term.params, task, targets, num_classes, key)
    return Term(loss, term.weight, term.on, term.optional)
