"""Which points of the scans and which covariates a score rests on: the one door to Captum."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from engine.errors import UsageError, check_whole, nearest
from engine.evaluation_mode import evaluating

METHODS = ("integrated_gradients", "input_x_gradient", "saliency")
# Points of the path from the baseline to the input, and rows of one forward pass.
STEPS, ROWS = 50, 64

Target = int | Tensor | None


@dataclass(frozen=True)
class Attribution:
    """What each input contributes to a score, in the score's unit.

    Attributes:
        spectra: [B, S, L], exactly zero where padded.
        tabular: [B, D].
        target: The output whose score is explained, long [B].
        gap: By how much the contributions fail to add up to f(x) - f(baseline), [B]; None for a
            method that does not promise it.
    """

    spectra: Tensor
    tabular: Tensor
    target: Tensor
    gap: Tensor | None


@dataclass(frozen=True)
class Importance:
    """Attributions over many samples, on the CPU.

    Attributes:
        points: Mean over the samples of the sum over their scans of |attribution|, [L].
        covariates: Mean over the samples of |attribution|, [D].
        signed_points: As ``points``, without taking absolute values, [L].
        signed_covariates: As ``covariates``, without taking absolute values, [D].
        samples: How many.
        gap: The mean |gap|; None for a method that has none.
    """

    points: Tensor
    covariates: Tensor
    signed_points: Tensor
    signed_covariates: Tensor
    samples: int
    gap: float | None


class _Inputs(NamedTuple):
    spectra: Tensor
    mask: Tensor
    tabular: Tensor

    def rows(self, start: int, stop: int) -> _Inputs:
        return _Inputs(*(tensor[start:stop] for tensor in self))


class _Scores(nn.Module):
    """A model in Captum's order: what is differentiated first, the mask after it."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, spectra: Tensor, tabular: Tensor, mask: Tensor) -> Tensor:
        logits: Tensor = self.model(spectra, mask, tabular)["logits"]
        # A modality that the model does not look at has a gradient of zero, not none at all.
        looked_at = spectra.flatten(1).sum(dim=1) + tabular.sum(dim=1)
        return logits + 0 * looked_at[:, None]


def attribute(
    model: nn.Module,
    batch: Any,
    target: Target = None,
    method: str = "integrated_gradients",
    *,
    baseline: tuple[Tensor, Tensor] | None = None,
    steps: int = STEPS,
    rows: int = ROWS,
) -> Attribution:
    """Explain one output's score for each sample of a batch.

    ``integrated_gradients``: the gradient's mean along the straight line from the baseline, times
    the distance (Sundararajan et al. 2017, "Axiomatic Attribution for Deep Networks"); the
    contributions add up to f(x) - f(baseline). ``input_x_gradient`` and ``saliency`` (Simonyan
    et al. 2014, with its sign) take the gradient at the input alone.

    The model computes in evaluation mode; its mode and its parameters' gradients stay as they are.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``.
        batch: Offers them, on the model's device.
        target: An output's number, one for each sample (long [B]), or None for the highest score.
        method: One of ``METHODS``.
        baseline: Spectra and covariates to start from, broadcast to the inputs' shapes; zeros,
            the mean of standardised inputs, by default.
        steps: Of ``integrated_gradients``.
        rows: At most so many samples, or points of their paths, in one forward pass.

    Raises:
        UsageError: The method or the target does not exist.
    """
    if method not in METHODS:
        raise UsageError(f"no attribution method is called '{method}'{nearest(method, METHODS)}")
    check_whole("attribution.steps", steps)
    check_whole("attribution.rows", rows)
    real = batch.mask[..., None]
    # What a loader left in padded scans is not the sample's: neither the path nor the sum has it.
    spectra = torch.where(real, batch.spectra.detach(), 0)
    tabular = batch.tabular.detach()
    start = (torch.zeros_like(spectra), torch.zeros_like(tabular))
    if baseline is not None:
        start = (
            torch.where(real, baseline[0].to(spectra).expand_as(spectra), 0),
            baseline[1].to(tabular).expand_as(tabular),
        )
    with _ready_to_explain(model):
        inputs = _Inputs(spectra, batch.mask, tabular)
        chosen = _choose_target(model, inputs, target, rows)
        parts = [
            _explain(
                model,
                inputs.rows(first, first + rows),
                (start[0][first : first + rows], start[1][first : first + rows]),
                chosen[first : first + rows],
                method,
                steps,
                rows,
            )
            for first in range(0, len(chosen), rows)
        ]
    gaps = [gap for _, _, gap in parts if gap is not None]
    return Attribution(
        torch.where(real, torch.cat([part[0] for part in parts]), 0),
        torch.cat([part[1] for part in parts]),
        chosen,
        torch.cat(gaps) if gaps else None,
    )


def mean_importance(
    model: nn.Module,
    loader: Iterable[Any],
    target: int | None = None,
    method: str = "integrated_gradients",
    *,
    device: torch.device | str = "cpu",
    max_samples: int | None = None,
    steps: int = STEPS,
    rows: int = ROWS,
) -> Importance:
    """Aggregate the attributions of a loader's samples.

    Args:
        model: As for :func:`attribute`.
        loader: Yields batches.
        target: As for :func:`attribute`.
        method: As for :func:`attribute`.
        device: Where the model is.
        max_samples: Explain only the first so many; None for all.
        steps: As for :func:`attribute`.
        rows: As for :func:`attribute`.

    Raises:
        UsageError: As for :func:`attribute`, or the loader is empty.
    """
    sums: list[Tensor] = []
    samples, gaps = 0, []
    for batch in loader:
        left = None if max_samples is None else max_samples - samples
        if left == 0:
            break
        moved = batch.to(device)
        inputs = _Inputs(moved.spectra, moved.mask, moved.tabular).rows(0, left or len(moved.mask))
        found = attribute(model, inputs, target, method, steps=steps, rows=rows)
        parts = [
            found.spectra.abs().sum(dim=(0, 1)),
            found.tabular.abs().sum(dim=0),
            found.spectra.sum(dim=(0, 1)),
            found.tabular.sum(dim=0),
        ]
        doubles = [part.double().cpu() for part in parts]
        sums = [a + b for a, b in zip(sums, doubles, strict=True)] if sums else doubles
        samples += len(inputs.mask)
        if found.gap is not None:
            gaps.append(found.gap.abs().double().cpu())
    if not samples:
        raise UsageError("attribution: the loader is empty, there is no sample to explain")
    points, covariates, signed_points, signed_covariates = (total / samples for total in sums)
    gap = float(torch.cat(gaps).mean()) if gaps else None
    return Importance(points, covariates, signed_points, signed_covariates, samples, gap)


def _choose_target(model: nn.Module, inputs: _Inputs, target: Target, rows: int) -> Tensor:
    """The output to explain for each sample, long [B]."""
    samples, device = len(inputs.mask), inputs.mask.device
    with torch.no_grad():
        first = 1 if target is not None else samples  # one sample tells how many outputs there are
        logits = torch.cat(
            [
                _Scores(model)(part.spectra, part.tabular, part.mask)
                for part in (inputs.rows(i, min(i + rows, first)) for i in range(0, first, rows))
            ]
        )
    if target is None:
        return logits.argmax(dim=1)
    outputs = logits.shape[1]
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
    return chosen.expand(samples)


def _explain(
    model: nn.Module,
    inputs: _Inputs,
    start: tuple[Tensor, Tensor],
    target: Tensor,
    method: str,
    steps: int,
    rows: int,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Attributions of at most ``rows`` samples, and their gaps."""
    from captum import attr  # takes two seconds, which only those who explain should wait

    scores = _Scores(model)
    leaves = (
        inputs.spectra.clone().requires_grad_(),
        inputs.tabular.clone().requires_grad_(),
    )
    known: dict[str, Any] = {"target": target, "additional_forward_args": inputs.mask}
    if method == "integrated_gradients":
        (spectra, tabular), gap = attr.IntegratedGradients(scores).attribute(
            leaves,
            start,
            n_steps=steps,
            internal_batch_size=rows,
            return_convergence_delta=True,
            **known,
        )
        return spectra.detach(), tabular.detach(), gap.detach()
    if method == "saliency":
        spectra, tabular = attr.Saliency(scores).attribute(leaves, abs=False, **known)
    else:
        spectra, tabular = attr.InputXGradient(scores).attribute(leaves, **known)
    return spectra.detach(), tabular.detach(), None


@contextmanager
def _ready_to_explain(model: nn.Module) -> Iterator[None]:
    """Evaluation mode, with gradients."""
    # cuDNN's recurrent layers go backward in training mode only; torch's own do in both.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    without_cudnn = torch.backends.cudnn.flags(enabled=not recurrent)
    with evaluating(model), torch.enable_grad(), without_cudnn:
        yield
