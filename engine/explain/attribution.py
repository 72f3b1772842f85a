"""Which points of the scans and which covariates a score rests on, by Captum."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from datasets.errors import UsageError, nearest
from engine.checkpointing import preserve_rng_state
from engine.eval_mode import eval_mode
from engine.explain.attribution_methods import (
    FUNCTIONS,
    Found,
    Inputs,
    Scores,
    Task,
    samples_together,
)
from engine.explain.attribution_options import METHODS, Options
from engine.explain.attribution_results import (
    Attribution,
)

Target = int | Tensor | None


def attribute(
    model: nn.Module,
    batch: Any,
    target: Target = None,
    method: str = "integrated_gradients",
    *,
    first: int = 0,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Attribution:
    """Explain one output's score for each sample of a batch.

    Contributions by ``integrated_gradients`` add up to f(x) - f(baseline), those by
    ``gradient_shap`` do so on average; ``feature_ablation`` replaces one region of points, or one
    covariate, at a time; ``input_x_gradient`` and ``saliency`` use the gradient at the input
    (:mod:`engine.explain.attribution_methods`).

    The model computes in evaluation mode; its modes, its parameters' gradients and the random
    number streams are restored. Memory: the result is as large as the batch; a pass has at most
    ``rows`` rows of about 6 x S x L x 4 bytes, and what the model keeps to go backward.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``.
        batch: Has these, on the model's device.
        target: An output's number, one per sample (long [B]), or None for the highest score of
            each sample, the predicted class. Required for several labels or values.
        method: One of ``METHODS``.
        first: The number of the batch's first sample among several batches: random draws depend
            on a sample's number and the seed, not on its batch.
        progress: Called with the number of samples explained since the last call.
        **options: Fields of :class:`engine.explain.Options`.

    Raises:
        UsageError: Unknown method or target, a setting out of range, or no target for several
            labels or values.

    Example:
        >>> from models import MeanLinear
        >>> mask = torch.ones(3, 4, dtype=torch.bool)
        >>> batch = Inputs(torch.randn(3, 4, 8), mask, torch.randn(3, 2))
        >>> found = attribute(MeanLinear(8), batch, target=1, score="log_odds")
        >>> found.spectra.shape, bool(found.gap.abs().max() < 1e-4)
        (torch.Size([3, 4, 8]), True)
    """
    if method not in METHODS:
        raise UsageError(f"no attribution method is called '{method}'{nearest(method, METHODS)}")
    check_one_output(batch, target)
    settings = Options(**options)
    if settings.references is None:
        settings = replace(settings, references=batch)
    real = batch.mask[..., None]
    # Values in padded scans are not the sample's.
    spectra = torch.where(real, batch.spectra.detach(), 0)
    inputs = Inputs(spectra, batch.mask, batch.tabular.detach())
    start = _baseline(inputs, settings.baseline)
    with _ready_to_explain(model):
        scores = Scores(model, settings.score)
        chosen, outputs = _choose_target(scores, inputs, target, settings.rows)
        parts = []
        for numbers in _alike(batch.mask, samples_together(method, settings)):
            own = inputs.rows(numbers).trimmed()
            begin = start[0][numbers, : own.spectra.shape[1]], start[1][numbers]
            task = Task(own, begin, chosen[numbers], [first + n for n in numbers])
            parts.append((numbers, FUNCTIONS[method](scores, task, settings).detached()))
            if progress is not None:
                progress(len(numbers))
    return _put_together(parts, inputs, chosen, outputs)


def check_one_output(batch: Any, target: Target) -> None:
    """Refuse several labels or values (``batch.target`` float [B, T]) without a target.

    The largest score is the predicted one of classes only.

    Raises:
        UsageError: No output is named, and there are several.
    """
    given = getattr(batch, "target", None)
    if target is None and given is not None and given.is_floating_point() and given.ndim == 2:
        outputs = given.shape[1]
        if outputs > 1:
            raise UsageError(
                f"attribution.target: the batch has {outputs} labels or values, of which none is "
                f"the predicted one; name an output, 0 to {outputs - 1}"
            )


def _baseline(inputs: Inputs, given: tuple[Tensor, Tensor] | None) -> tuple[Tensor, Tensor]:
    """Spectra and covariates to start from, in the inputs' shapes; zero where padded."""
    spectra, _, tabular = inputs
    if given is None:
        return torch.zeros_like(spectra), torch.zeros_like(tabular)
    return (
        torch.where(inputs.mask[..., None], given[0].to(spectra).expand_as(spectra), 0),
        given[1].to(tabular).expand_as(tabular).clone(),
    )


def _alike(mask: Tensor, size: int) -> Iterator[list[int]]:
    """The samples' numbers, at most ``size`` at once, those with as many scans together."""
    order = mask.sum(dim=1).argsort(stable=True).tolist()
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


def _choose_target(scores: Scores, inputs: Inputs, target: Target, rows: int) -> tuple[Tensor, int]:
    """The output to explain for each sample, long [B], and the number of outputs."""
    samples, device = len(inputs.mask), inputs.mask.device
    with torch.no_grad():
        looked_at = 1 if target is not None else samples  # one gives the number of outputs
        found = torch.cat(
            [
                scores(part.spectra, part.tabular, part.mask)
                for part in (
                    inputs.rows(slice(begin, min(begin + rows, looked_at)))
                    for begin in range(0, looked_at, rows)
                )
            ]
        )
    outputs = found.shape[1]
    if target is None:
        return found.argmax(dim=1), outputs
    chosen = torch.as_tensor(target, device=device).long()
    if chosen.ndim > 1 or (chosen.ndim == 1 and len(chosen) != samples):
        raise UsageError(
            f"attribution.target must be one number, or one for each of {samples} samples, "
            f"not of shape {list(chosen.shape)}"
        )
    if not bool(((chosen >= 0) & (chosen < outputs)).all()):
        raise UsageError(
            f"attribution.target: the model has the outputs 0 to {outputs - 1}, not "
            f"{int(chosen.max() if bool((chosen >= outputs).any()) else chosen.min())}"
        )
    return chosen.expand(samples), outputs


def _put_together(
    parts: list[tuple[list[int], Found]], inputs: Inputs, target: Tensor, outputs: int
) -> Attribution:
    """The parts' results in the order of the batch."""
    spectra, tabular = torch.zeros_like(inputs.spectra), torch.zeros_like(inputs.tabular)
    for numbers, found in parts:
        spectra[numbers, : found.spectra.shape[1]] = found.spectra.to(spectra)
        tabular[numbers] = found.tabular.to(tabular)
    order = torch.tensor([n for numbers, _ in parts for n in numbers]).argsort()

    def whole(of_parts: list[Tensor | None]) -> Tensor | None:
        known = [part for part in of_parts if part is not None]
        return torch.cat(known)[order.to(target.device)] if known else None

    return Attribution(
        torch.where(inputs.mask[..., None], spectra, 0),
        tabular,
        target,
        gap=whole([found.gap for _, found in parts]),
        change=whole([found.change for _, found in parts]),
        outputs=outputs,
    )


@contextmanager
def _ready_to_explain(model: nn.Module) -> Iterator[None]:
    """Evaluation mode with gradients; random number streams are preserved."""
    # cuDNN's recurrent layers go backward in training mode only.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    without_cudnn = torch.backends.cudnn.flags(enabled=not recurrent)
    with eval_mode(model), preserve_rng_state(), torch.enable_grad(), without_cudnn:
        yield
