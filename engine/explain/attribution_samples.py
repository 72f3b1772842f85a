"""Attributions of many samples, batch by batch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from datasets.errors import UsageError
from datasets.specs import require_whole
from engine.explain.attribution import attribute, check_one_output
from engine.explain.attribution_methods import Inputs
from engine.explain.attribution_results import Attribution, Explained
from engine.metrics import order_of, rows_in_order

# Each output takes time and memory, and more are hard to read.
MOST_OUTPUTS = 10


def explain(
    model: nn.Module,
    loader: Iterable[Any],
    target: int | None = None,
    method: str = "integrated_gradients",
    *,
    device: torch.device | str = "cpu",
    max_samples: int | None = None,
    keep_intensities: bool = False,
    progress: Callable[[int], None] | None = None,
    **options: Any,
) -> Explained:
    """Explain the samples of a loader.

    Args:
        model: Called with ``spectra``, ``mask`` and ``tabular``.
        loader: Yields batches; only as many as needed are fetched.
        target: An output's number; None for each sample's predicted class, or for the only
            output. Required for several labels or values, or take :func:`explain_outputs`.
        method: One of ``METHODS``.
        device: Of the model.
        max_samples: Explain only the first so many, in the order of the loader's data set if its
            samples have names; None for all.
        keep_intensities: Keep the scans themselves, too.
        progress: Called with the number of samples explained since the last call.
        **options: As for :func:`engine.explain.attribute`, with two other defaults. ``score``:
            log-odds for whole-number targets (classes), else the output. ``references``: the
            first batch.

    Raises:
        UsageError: As for ``attribute``, or there is no sample.

    Example:
        >>> from datasets.batches import Batch
        >>> from models import MeanLinear
        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> spectra, covariates = torch.randn(2, 2, 8), torch.randn(2, 3)
        >>> batch = Batch(spectra, mask, covariates, torch.tensor([0, 1]), ["a", "b"])
        >>> found = explain(MeanLinear(8), [batch])
        >>> found.score, [tuple(scans.shape) for scans in found.scans]
        ('log_odds', [(1, 8), (2, 8)])
    """
    explainer = Explainer(
        model,
        target,
        method,
        max_samples=max_samples,
        keep_intensities=keep_intensities,
        progress=progress,
        order=order_of(loader),
        **options,
    )
    for batch in loader:
        explainer.add(batch.to(device))
        if explainer.full:
            break
    return explainer.explained()


def explain_outputs(
    model: nn.Module,
    loader: Iterable[Any],
    target: int | None = None,
    *,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> list[Explained]:
    """Explain the samples of a loader for each label or value: one set of attributions per output.

    Args:
        model: As for :func:`explain`.
        loader: As for :func:`explain`.
        target: An output's number; None for each sample's predicted class, or for each of the
            first ``MOST_OUTPUTS`` labels or values.
        device: Of the model.
        **settings: As for :func:`explain`.

    Raises:
        UsageError: As for :func:`explain`.
    """
    explainer = OutputsExplainer(model, target, order=order_of(loader), **settings)
    for batch in loader:
        explainer.add(batch.to(device))
        if explainer.full:
            break
    return explainer.explained()


class OutputsExplainer:
    """Explains batches for each label or value, with an :class:`Explainer` per output.

    Args:
        model: As for :func:`explain`.
        target: As for :func:`explain_outputs`.
        progress: Called with the number of samples of which all outputs were explained since the
            last call.
        keep_intensities: As for :func:`explain`; all sets share them.
        **settings: As for :func:`explain`.
    """

    def __init__(
        self,
        model: nn.Module,
        target: int | None = None,
        *,
        progress: Callable[[int], None] | None = None,
        keep_intensities: bool = False,
        **settings: Any,
    ) -> None:
        self.model, self.target = model, target
        self.progress, self.keep_intensities = progress, keep_intensities
        self.settings = settings
        self._explainers: list[Explainer] = []

    @property
    def full(self) -> bool:
        """Whether ``max_samples`` is reached."""
        return bool(self._explainers) and self._explainers[0].full

    def add(self, batch: Any) -> None:
        """Explain a batch on the model's device, or as much of it as is still needed."""
        if not self._explainers:
            self._explainers = list(self._start(batch))
        for explainer in self._explainers:
            explainer.add(batch)

    def _start(self, batch: Any) -> Iterator[Explainer]:
        targets: list[int | None] = [self.target]
        if self.target is None and batch.target.is_floating_point():
            targets = list(range(min(batch.target.shape[1], MOST_OUTPUTS)))
        for number, target in enumerate(targets):
            last = number == len(targets) - 1
            yield Explainer(
                self.model,
                target,
                keep_intensities=self.keep_intensities and number == 0,
                progress=self.progress if last else None,
                **self.settings,
            )

    def explained(self) -> list[Explained]:
        """The attributions, on the CPU, one set per output.

        Raises:
            UsageError: There was no sample.
        """
        found = [explainer.explained() for explainer in self._explainers]
        if not found:
            raise UsageError("attribution: the loader is empty, there is no sample to explain")
        return [replace(one, intensities=found[0].intensities) for one in found]


class Explainer:
    """Explains batches, up to ``max_samples`` samples, and keeps their attributions.

    Memory: S_i x L x 4 bytes per sample, twice that with intensities, besides that of
    :func:`engine.explain.attribute`.

    Args:
        model: As for :func:`explain`.
        target: As for :func:`explain`.
        method: As for :func:`explain`.
        max_samples: As for :func:`explain`.
        keep_intensities: As for :func:`explain`.
        progress: As for :func:`explain`.
        order: Names of all samples to come; the first ``max_samples`` of them are explained, and
            returned in this order. None for the order of the batches.
        **options: As for :func:`explain`.

    Attributes:
        samples: How many are explained so far.
    """

    def __init__(
        self,
        model: nn.Module,
        target: int | None = None,
        method: str = "integrated_gradients",
        *,
        max_samples: int | None = None,
        keep_intensities: bool = False,
        progress: Callable[[int], None] | None = None,
        order: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        if max_samples is not None:
            max_samples = require_whole("attribution.max_samples", max_samples, 1)
        self.model, self.target, self.method = model, target, method
        self.max_samples, self.keep_intensities = max_samples, keep_intensities
        self.progress = progress
        self.order = order
        self._wanted = None if order is None else set(order[:max_samples])
        self.options = options
        self.samples = 0
        self._names: list[str] = []
        self._scans: list[Tensor] = []
        self._intensities: list[Tensor] = []
        self._found: list[Attribution] = []

    @property
    def full(self) -> bool:
        """Whether ``max_samples`` is reached."""
        return self.max_samples is not None and self.samples >= self.max_samples

    def add(self, batch: Any) -> None:
        """Explain a batch on the model's device, or as much of it as is still needed."""
        left = None if self.max_samples is None else self.max_samples - self.samples
        if left == 0:
            return
        check_one_output(batch, self.target)
        chosen = list(range(len(batch.sample_id)))[:left]
        if self._wanted is not None:
            chosen = [row for row, n in enumerate(batch.sample_id) if n in self._wanted]
        if not chosen:
            return
        inputs = Inputs(batch.spectra, batch.mask, batch.tabular).rows(chosen)
        if self.options.get("references") is None:
            self.options["references"] = inputs
        if self.options.get("score") is None:
            of_classes = not batch.target.is_floating_point()
            self.options["score"] = "log_odds" if of_classes else "logit"
        found = attribute(
            self.model,
            inputs,
            self.target,
            self.method,
            first=self.samples,
            progress=self.progress,
            **self.options,
        )
        self._names += [batch.sample_id[row] for row in chosen]
        self._scans += _real_scans(found.spectra, inputs.mask)
        if self.keep_intensities:
            self._intensities += _real_scans(inputs.spectra, inputs.mask)
        self.samples += len(inputs.mask)
        # The padded spectra are not kept.
        empty = found.spectra.new_zeros(0)
        self._found.append(
            Attribution(empty, found.tabular, found.target, found.gap, found.change, found.outputs)
        )

    def explained(self) -> Explained:
        """The attributions, on the CPU.

        Raises:
            UsageError: There was no sample.
        """
        if not self._found:
            raise UsageError("attribution: the loader is empty, there is no sample to explain")
        found = Explained(
            self.method,
            list(self._names),
            torch.cat([found.target for found in self._found]).cpu(),
            list(self._scans),
            torch.cat([found.tabular for found in self._found]).cpu().float(),
            _whole([found.change for found in self._found]),
            _whole([found.gap for found in self._found]),
            score=self.options["score"],
            outputs=self._found[0].outputs,
            intensities=list(self._intensities) if self.keep_intensities else None,
        )
        if self.order is None:
            return found
        return found.take(rows_in_order(found.sample_id, self.order))


def _real_scans(spectra: Tensor, mask: Tensor) -> list[Tensor]:
    """Each sample's real scans, [S_i, L] on the CPU, in one transfer."""
    # One transfer for all of them.
    rows = spectra[mask].float().cpu()
    return list(rows.split(mask.sum(dim=1).tolist()))


def _whole(parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known).cpu() if known else None
