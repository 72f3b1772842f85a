"""Which points of the scans and which covariates a score rests on, by Captum.

Of one batch by :func:`attribute`, of many samples by :func:`explain`.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from datasets.errors import UsageError, nearest
from datasets.specs import require_whole
from engine.checkpointing import preserve_rng_state
from engine.eval_mode import eval_mode
from engine.explain.attribution_methods import (
    FUNCTIONS,
    Inputs,
    Scores,
    Task,
    samples_together,
)
from engine.explain.attribution_options import METHODS, Options
from engine.explain.attribution_results import Attribution, Explained
from engine.metrics import order_of, rows_in_order

Target = int | Tensor | None
# Each output takes time and memory, and more are hard to read.
MOST_OUTPUTS = 10


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
    """Explain one output's score for each sample of a batch, on the model's device.

    ``target`` is an output's number, one per sample (long [B]), or None for the predicted class; it
    is required (UsageError) for several labels or values. Random draws depend on the seed and a
    sample's number, that of the batch's ``first`` and so on, not on its batch. ``progress`` gets
    the number of samples explained since the last call. ``options`` are fields of
    :class:`engine.explain.Options`.

    The model's modes, its parameters' gradients and the random number streams are restored. Memory:
    the result is as large as the batch; a pass has at most ``rows`` rows of about 6 x S x L x 4
    bytes, and what the model keeps to go backward.

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
    attributed, tabular = torch.zeros_like(spectra), torch.zeros_like(inputs.tabular)
    sums: dict[str, Tensor] = {}  # gap and change, where the method has them
    # cuDNN's recurrent layers go backward in training mode only.
    recurrent = any(isinstance(module, nn.RNNBase) for module in model.modules())
    without_cudnn = torch.backends.cudnn.flags(enabled=not recurrent)
    with eval_mode(model), preserve_rng_state(), torch.enable_grad(), without_cudnn:
        scores = Scores(model, settings.score)
        chosen, outputs = _choose_target(scores, inputs, target, settings.rows)
        for numbers in _alike(batch.mask, samples_together(method, settings)):
            own = inputs.rows(numbers).trimmed()
            scans = own.spectra.shape[1]
            begin = start[0][numbers, :scans], start[1][numbers]
            task = Task(own, begin, chosen[numbers], [first + n for n in numbers])
            found = FUNCTIONS[method](scores, task, settings)
            attributed[numbers, :scans] = found.spectra.detach().to(spectra)
            tabular[numbers] = found.tabular.detach().to(tabular)
            for name, part in (("gap", found.gap), ("change", found.change)):
                if part is not None:
                    sums.setdefault(name, part.new_zeros(len(spectra)))[numbers] = part.detach()
            if progress is not None:
                progress(len(numbers))
    attributed = torch.where(real, attributed, 0)
    return Attribution(attributed, tabular, chosen, outputs=outputs, **sums)


def check_one_output(batch: Any, target: Target) -> None:
    """Refuse several labels or values (``batch.target`` float [B, T]) without a target."""
    given = getattr(batch, "target", None)
    if target is not None or given is None or given.ndim < 2 or not given.is_floating_point():
        return
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
        begins = range(0, looked_at, rows)
        parts = [inputs.rows(slice(begin, min(begin + rows, looked_at))) for begin in begins]
        found = torch.cat([scores(part.spectra, part.tabular, part.mask) for part in parts])
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


def _joined(parts: list[Tensor | None]) -> Tensor | None:
    known = [part for part in parts if part is not None]
    return torch.cat(known) if known else None


def explain(
    model: nn.Module,
    loader: Iterable[Any],
    target: int | None = None,
    method: str = "integrated_gradients",
    *,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> Explained:
    """Explain one output for the samples of a loader, of which only the needed ones are fetched.

    ``target`` None is each sample's predicted class, or the only output. ``settings`` are those of
    :class:`OutputsExplainer`.
    """
    settings |= {"method": method, "several": False}
    return explain_outputs(model, loader, target, device=device, **settings)[0]


def explain_outputs(
    model: nn.Module,
    loader: Iterable[Any],
    target: int | None = None,
    *,
    device: torch.device | str = "cpu",
    **settings: Any,
) -> list[Explained]:
    """As :func:`explain`, one set of attributions for each label or value (``MOST_OUTPUTS``)."""
    explainer = OutputsExplainer(model, target, order=order_of(loader), **settings)
    for batch in loader:
        explainer.add(batch.to(device))
        if explainer.full:
            break
    return explainer.explained()


class OutputsExplainer:
    """Explains batches, up to ``max_samples`` samples, and keeps their attributions.

    Memory: S_i x L x 4 bytes per sample and output, as much again with intensities. With
    ``several`` labels or values are explained one by one, else refused. ``order`` names all samples
    to come, of which the first are explained. ``progress`` gets the number of samples newly
    explained. ``options`` are as for :func:`attribute`, but ``score`` is log-odds for whole-number
    targets (classes), and ``references`` the first batch.
    """

    def __init__(
        self,
        model: nn.Module,
        target: int | None = None,
        method: str = "integrated_gradients",
        *,
        several: bool = True,
        max_samples: int | None = None,
        keep_intensities: bool = False,
        progress: Callable[[int], None] | None = None,
        order: Sequence[str] | None = None,
        **options: Any,
    ) -> None:
        if max_samples is not None:
            max_samples = require_whole("attribution.max_samples", max_samples, 1)
        self.model, self.target, self.method, self.several = model, target, method, several
        self.max_samples, self.keep_intensities = max_samples, keep_intensities
        self.progress, self.order, self.options = progress, order, options
        self._wanted = None if order is None else set(order[:max_samples])
        self.samples = 0
        self._targets: list[int | None] = [target]
        self._names: list[str] = []
        self._intensities: list[Tensor] = []
        self._scans: list[list[Tensor]] = []  # by target
        self._found: list[list[Attribution]] = []  # by batch, by target

    @property
    def full(self) -> bool:
        """Whether ``max_samples`` is reached."""
        return self.max_samples is not None and self.samples >= self.max_samples

    def add(self, batch: Any) -> None:
        """Explain a batch on the model's device, or as much of it as is still needed."""
        left = None if self.max_samples is None else self.max_samples - self.samples
        if left == 0:
            return
        if not self.several:
            check_one_output(batch, self.target)
        chosen = list(range(len(batch.sample_id)))[:left]
        if self._wanted is not None:
            chosen = [row for row, n in enumerate(batch.sample_id) if n in self._wanted]
        if not chosen:
            return
        inputs = Inputs(batch.spectra, batch.mask, batch.tabular).rows(chosen)
        if not self._found:
            self._settle(batch, inputs)
        found = [
            attribute(
                self.model,
                inputs,
                target,
                self.method,
                first=self.samples,
                progress=self.progress if target == self._targets[-1] else None,
                **self.options,
            )
            for target in self._targets
        ]
        self._names += [batch.sample_id[row] for row in chosen]
        for scans, of_target in zip(self._scans, found, strict=True):
            scans += _real_scans(of_target.spectra, inputs.mask)
        if self.keep_intensities:
            self._intensities += _real_scans(inputs.spectra, inputs.mask)
        self.samples += len(inputs.mask)
        # The padded spectra are not kept.
        self._found.append([replace(one, spectra=one.spectra.new_zeros(0)) for one in found])

    def _settle(self, batch: Any, inputs: Inputs) -> None:
        """Choose the outputs and the options that follow from the first batch."""
        labels = batch.target.is_floating_point()
        if self.several and self.target is None and labels:
            self._targets = list(range(min(batch.target.shape[1], MOST_OUTPUTS)))
        self._scans = [[] for _ in self._targets]
        if self.options.get("references") is None:
            self.options["references"] = inputs
        if self.options.get("score") is None:
            self.options["score"] = "logit" if labels else "log_odds"

    def explained(self) -> list[Explained]:
        """The attributions, on the CPU, one set per output; UsageError if there was no sample."""
        if not self._found:
            raise UsageError("attribution: the loader is empty, there is no sample to explain")
        by_target = zip(self._scans, zip(*self._found, strict=True), strict=True)
        sets = [self._explained(*each) for each in by_target]
        return [replace(one, intensities=sets[0].intensities) for one in sets]

    def _explained(self, scans: list[Tensor], parts: Sequence[Attribution]) -> Explained:
        change = _joined([part.change for part in parts])
        gap = _joined([part.gap for part in parts])
        found = Explained(
            self.method,
            list(self._names),
            torch.cat([part.target for part in parts]).cpu(),
            list(scans),
            torch.cat([part.tabular for part in parts]).cpu().float(),
            None if change is None else change.cpu(),
            None if gap is None else gap.cpu(),
            score=self.options["score"],
            outputs=parts[0].outputs,
            intensities=list(self._intensities) if self.keep_intensities else None,
        )
        if self.order is None:
            return found
        return found.take(rows_in_order(found.sample_id, self.order))


def _real_scans(spectra: Tensor, mask: Tensor) -> list[Tensor]:
    """Each sample's real scans, [S_i, L] on the CPU, in one transfer."""
    return list(spectra[mask].float().cpu().split(mask.sum(dim=1).tolist()))
