"""Which points of the scans and which covariates a score rests on: the one door to Captum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
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
    Importance,
    ImportanceSums,
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

    The methods and their settings are described where they are defined, in
    :mod:`engine.explain.attribution_methods`. Contributions by ``integrated_gradients`` add up to
    f(x) - f(baseline), those by ``gradient_shap`` do so on average; ``feature_ablation`` replaces
    one window of points, or one covariate, at a time; ``input_x_gradient`` and ``saliency`` look at
    the gradient at the input alone.

    The model computes in evaluation mode; its mode, its parameters' gradients and the random
    number streams stay as they are.

    Memory: the result is as large as the batch. No pass is of more than ``rows`` rows, however
    large the batch is; samples with as many scans go together, so that next to no padding is
    computed or held. A row takes S x L x 4 bytes about six times over, and what the model keeps
    of it to go backward.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``.
        batch: Offers them, on the model's device.
        target: An output's number, one for each sample (long [B]), or None for the highest score
            of each sample, the class that is predicted. The true label has no part in it. Several
            labels or values are no choices of one thing: of them name one.
        method: One of ``METHODS``.
        first: The number of the batch's first sample, where it is one of several batches: what
            is drawn for a sample depends on its number and the seed, not on its batch.
        progress: Called with the number of samples that were explained since it last was.
        **options: Fields of :class:`engine.explain.Options`.

    Raises:
        UsageError: The method or the target does not exist, a setting is out of range, or no
            target is named of a batch with several labels or values.

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
    # What a loader left in padded scans is not the sample's: neither the path nor the sum has it.
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


def mean_importance(
    model: nn.Module,
    loader: Iterable[Any],
    target: int | None = None,
    method: str = "integrated_gradients",
    *,
    device: torch.device | str = "cpu",
    max_samples: int | None = None,
    **options: Any,
) -> Importance:
    """Aggregate the attributions of a loader's samples, holding those of one batch at a time.

    Args:
        model: As for :func:`attribute`.
        loader: Yields batches.
        target: As for :func:`attribute`.
        method: As for :func:`attribute`.
        device: Where the model is.
        max_samples: Explain only the first so many; None for all.
        **options: As for :func:`attribute`; the first batch is the references by default.

    Raises:
        UsageError: As for :func:`attribute`, or the loader is empty.
    """
    sums = ImportanceSums()
    for batch in loader:
        left = None if max_samples is None else max_samples - sums.samples
        if left == 0:
            break
        check_one_output(batch, target)
        moved = batch.to(device)
        inputs = Inputs(moved.spectra, moved.mask, moved.tabular).rows(slice(left))
        if options.get("references") is None:
            options["references"] = inputs
        found = attribute(model, inputs, target, method, first=sums.samples, **options)
        for spectra, mask, tabular in zip(found.spectra, inputs.mask, found.tabular, strict=True):
            sums.add(spectra[mask].cpu(), tabular.cpu())
        sums.add_gaps(found.gap)
    return sums.mean()


def check_one_output(batch: Any, target: Target) -> None:
    """Refuse to choose among outputs of unlike kind.

    The largest score is the predicted one of classes only; labels and values are each a question
    of its own, values in a unit of its own.

    Args:
        batch: May have ``target``: float [B, T] of labels and of values.
        target: As for :func:`attribute`.

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
    """The samples' numbers, at most so many at once, those with as many scans together."""
    order = mask.sum(dim=1).argsort(stable=True).tolist()
    for begin in range(0, len(order), size):
        yield order[begin : begin + size]


def _choose_target(scores: Scores, inputs: Inputs, target: Target, rows: int) -> tuple[Tensor, int]:
    """The output to explain for each sample, long [B], and how many outputs there are."""
    samples, device = len(inputs.mask), inputs.mask.device
    with torch.no_grad():
        looked_at = 1 if target is not None else samples  # one tells how many outputs there are
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
    """The parts' results where their samples stand."""
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
    """Evaluation mode, with gradients; nothing drawn is missed by anyone."""
    # cuDNN's recurrent layers go backward in training mode only; torch's own do in both.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    without_cudnn = torch.backends.cudnn.flags(enabled=not recurrent)
    with eval_mode(model), preserve_rng_state(), torch.enable_grad(), without_cudnn:
        yield
