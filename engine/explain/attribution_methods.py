"""The attribution methods: each of them Captum's, in passes of bounded memory."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from engine.explain.attribution_options import Options


class Inputs(NamedTuple):
    """What a model is called with: spectra [B, S, L], mask [B, S] and covariates [B, D]."""

    spectra: Tensor
    mask: Tensor
    tabular: Tensor

    def rows(self, chosen: Any) -> Inputs:
        """Some of the samples, by a slice or by their numbers."""
        return Inputs(self.spectra[chosen], self.mask[chosen], self.tabular[chosen])

    def trimmed(self) -> Inputs:
        """Without the scans at the end that are padding in every sample."""
        last = int(self.mask.any(dim=0).nonzero().max()) + 1
        return Inputs(self.spectra[:, :last], self.mask[:, :last], self.tabular)


class Scores(nn.Module):
    """A model in Captum's order, what is explained before the mask; gives [B, C]."""

    def __init__(self, model: nn.Module, score: str) -> None:
        super().__init__()
        self.model = model
        self.score = score

    def forward(self, spectra: Tensor, tabular: Tensor, mask: Tensor) -> Tensor:
        """The scores that are explained."""
        logits: Tensor = self.model(spectra, mask, tabular)["logits"]
        if self.score == "log_odds":
            logits = log_odds(logits)
        # An unused modality gets a gradient of zero, not None.
        looked_at = spectra.flatten(1).sum(dim=1) + tabular.sum(dim=1)
        return logits + 0 * looked_at[:, None]


def log_odds(logits: Tensor) -> Tensor:
    """The log-odds of each class by the softmax, [B, C]; a single output as it is."""
    classes = logits.shape[1]
    if classes == 1:
        return logits
    own = torch.eye(classes, dtype=torch.bool, device=logits.device)
    others = logits[:, None].expand(-1, classes, -1).masked_fill(own, -torch.inf)
    return logits - others.logsumexp(dim=2)


class Task(NamedTuple):
    """Samples to explain together: baselines, outputs long [B], numbers in the data set."""

    inputs: Inputs
    start: tuple[Tensor, Tensor]
    target: Tensor
    numbers: list[int]


class Found(NamedTuple):
    """Attributions of spectra and covariates; their sum and its error, [B] each or None."""

    spectra: Tensor
    tabular: Tensor
    change: Tensor | None = None
    gap: Tensor | None = None


def integrated_gradients(scores: Scores, task: Task, options: Options) -> Found:
    """Mean gradient on the line from the baseline, times the distance (Sundararajan 2017)."""
    from captum.attr import IntegratedGradients

    spectra, tabular = IntegratedGradients(scores).attribute(
        _leaves(task.inputs),
        task.start,
        n_steps=options.steps,
        internal_batch_size=options.rows,
        **_known(task),
    )
    change = _change(scores, task)
    return Found(spectra, tabular, change, _sum(spectra, tabular) - change)


def gradient_shap(scores: Scores, task: Task, options: Options) -> Found:
    """Integrated gradients averaged over samples as baselines: an estimate of SHAP values.

    Lundberg and Lee 2017; Erion et al. 2021. The contributions add up, on average, to f(x) minus
    the mean f of the drawn references. A reference's scans replace the sample's scans in turn.
    """
    from captum.attr import GradientShap

    parts = []
    for row, number in enumerate(task.numbers):
        one = task.inputs.rows(slice(row, row + 1)).trimmed()
        baselines = _reference_inputs(options.references, one)
        drawn, left = [], options.steps
        # Captum draws from the global streams, which the caller restores: seeded per sample, so
        # that neither the batch nor the rows of a pass matter.
        np.random.seed((options.seed, number))
        while left:
            draws = min(left, options.rows)
            (spectra, tabular), gap = GradientShap(scores).attribute(
                (one.spectra, one.tabular),
                baselines,
                n_samples=draws,
                target=task.target[row : row + 1],
                additional_forward_args=one.mask,
                return_convergence_delta=True,
            )
            drawn.append((spectra[0] * draws, tabular[0] * draws, gap.sum()))
            left -= draws
        parts.append([sum(part) / options.steps for part in zip(*drawn, strict=True)])
    whole = torch.zeros_like(task.inputs.spectra)
    for row, part in enumerate(parts):
        whole[row, : len(part[0])] = part[0]
    covariates = torch.stack([part[1] for part in parts])
    gap = torch.stack([part[2] for part in parts])
    return Found(whole, covariates, _sum(whole, covariates) - gap, gap)


def feature_ablation(scores: Scores, task: Task, options: Options) -> Found:
    """Decrease of the score when a region or covariate becomes the baseline (Zeiler 2014)."""
    from captum.attr import FeatureAblation

    samples, scans, points = task.inputs.spectra.shape
    windows = torch.arange(points, device=task.target.device) // options.window
    count = int(windows[-1]) + 1
    offset = torch.arange(scans if options.per_scan else 1, device=windows.device) * count
    features = (windows + offset[:, None]).expand(1, scans, points)
    total = int(features.max()) + 1
    covariates = total + torch.arange(task.inputs.tabular.shape[1], device=windows.device)
    with warnings.catch_warnings():
        # Without covariates Captum warns that it skips them.
        warnings.simplefilter("ignore")
        spectra, tabular = FeatureAblation(scores).attribute(
            (task.inputs.spectra, task.inputs.tabular),
            task.start,
            feature_mask=(features, covariates[None]),
            perturbations_per_eval=max(1, options.rows // samples),
            **_known(task),
        )
    shared = torch.bincount(windows)[windows].to(spectra.dtype)
    if not options.per_scan:
        shared = shared * task.inputs.mask.sum(dim=1)[:, None, None]
    return Found(spectra / shared, tabular, _change(scores, task))


def input_x_gradient(scores: Scores, task: Task, options: Options) -> Found:
    """The input times the gradient there (Shrikumar et al. 2016)."""
    from captum.attr import InputXGradient

    return Found(*InputXGradient(scores).attribute(_leaves(task.inputs), **_known(task)))


def saliency(scores: Scores, task: Task, options: Options) -> Found:
    """The gradient at the input, with its sign (Simonyan et al. 2014)."""
    from captum.attr import Saliency

    return Found(*Saliency(scores).attribute(_leaves(task.inputs), abs=False, **_known(task)))


# Captum is imported where it is called: it takes two seconds, which only those who explain wait.
FUNCTIONS: dict[str, Callable[[Scores, Task, Options], Found]] = {
    function.__name__: function
    for function in (
        integrated_gradients,
        gradient_shap,
        feature_ablation,
        input_x_gradient,
        saliency,
    )
}


def samples_together(method: str, options: Options) -> int:
    """Samples to hand to a method at once, so that a pass is full and no larger."""
    if method in ("integrated_gradients", "gradient_shap"):
        return max(1, options.rows // options.steps)
    # One sample has many ablated copies.
    return 1 if method == "feature_ablation" else options.rows


def _leaves(inputs: Inputs) -> tuple[Tensor, Tensor]:
    return inputs.spectra.clone().requires_grad_(), inputs.tabular.clone().requires_grad_()


def _known(task: Task) -> dict[str, Any]:
    return {"target": task.target, "additional_forward_args": task.inputs.mask}


def _change(scores: Scores, task: Task) -> Tensor:
    """f(x) - f(baseline), [B]."""
    with torch.no_grad():
        here = scores(task.inputs.spectra, task.inputs.tabular, task.inputs.mask)
        there = scores(*task.start, task.inputs.mask)
    return (here - there).gather(1, task.target[:, None])[:, 0]


def _sum(spectra: Tensor, tabular: Tensor) -> Tensor:
    return spectra.sum(dim=(1, 2)) + tabular.sum(dim=1)


def _reference_inputs(references: Any, one: Inputs) -> tuple[Tensor, Tensor]:
    """Each reference's scans in turn for the scans of one sample, [R, S, L], and [R, D]."""
    place = torch.arange(one.spectra.shape[1], device=one.mask.device)
    mask = references.mask.to(one.mask.device)
    counts = mask.sum(dim=1, keepdim=True)
    # The real scans' places first, in their order.
    order = mask.to(torch.uint8).argsort(dim=1, descending=True, stable=True)
    chosen = order.gather(1, place % counts)
    spectra = references.spectra.to(one.spectra)
    rows = torch.arange(len(spectra), device=spectra.device)[:, None]
    return spectra[rows, chosen], references.tabular.to(one.tabular)
