"""Contrastive pairs: two random halves of a sample's scans should be embedded alike."""

from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor

from datasets.errors import UsageError
from datasets.specs import require_range
from engine.distributed import map_tensors
from engine.events import Phase, TrainEvents, in_phase
from engine.losses import find_output, has_output
from engine.protocols import SavedAttributes
from engine.trainer import Trainer
from models.tft_loss import info_nce

TERM, TOTAL = "scan_pairs_loss", "total_loss"
METRIC = f"train/{TERM}"
# The first that a model returns is compared; an embedding of covariates would be equal in both.
EMBEDDINGS = ("spec_embedding", "embedding")


class ScanPairs(SavedAttributes):
    """Adds InfoNCE between two halves of each sample's scans to the training loss.

    At ``BATCH_READY`` each sample's scans are split at random into two views that share no scan,
    which are appended to the batch: one forward pass embeds samples and views. At
    ``FORWARD_COMPLETED`` the views are removed: loss, metrics and other handlers see the samples
    only. At ``LOSS_COMPLETED`` the two views of a sample are positives and those of the batch's
    other samples negatives (van den Oord et al. 2018; symmetric): ``weight`` times
    ``scan_pairs_loss`` is added to ``total_loss``, after ``loss_weights`` has formed it.

    A sample has to hold all scans of its patient. Samples of one scan are negatives only.
    Micro-batches and ranks are not compared with each other. The model's output ``on`` is compared,
    [B, E]; by default ``spec_embedding``, or ``embedding`` where there is none.
    """

    phase = Phase.GRADIENTS  # the total is formed by then
    saved = ("_pairs",)  # of an unfinished epoch; torch's random streams draw the splits
    of_each_process = True  # the pairs of its own batches

    def __init__(
        self, weight: float = 0.1, temperature: float = 0.1, on: str | None = None
    ) -> None:
        for name, value in (("weight", weight), ("temperature", temperature)):
            require_range(f"scan_pairs.{name}", value, 0, float("inf"), open_low=True)
        self.weight = weight
        self.temperature = temperature
        self.on = on
        self._pairs: Tensor | None = None  # in this epoch so far
        self._whole: tuple[Any, ...] = ()  # the batch without its views
        self._views: tuple[Tensor, Tensor] | None = None  # [B, E] each
        self._paired: Tensor | None = None  # bool [B]

    def attach(self, trainer: Trainer) -> None:
        """Listen to batches, outputs, losses and the ends of epochs."""
        self._device = trainer.device
        trainer.register_state("scan_pairs", self)
        trainer.provide_metrics(METRIC)
        trainer.add_event_handler(TrainEvents.BATCH_READY, self.append_views)
        trainer.add_event_handler(TrainEvents.FORWARD_COMPLETED, self.take_views)
        trainer.add_event_handler(TrainEvents.LOSS_COMPLETED, self)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, self.report)

    @in_phase(Phase.DECIDE)  # after functions of the user that change the batch
    def append_views(self, trainer: Trainer) -> None:
        """Append two views of each sample to the batch, [B, S, L] -> [3 B, S, L]."""
        batch = trainer.state.batch
        spectra, mask, tabular = batch.spectra, batch.mask, batch.tabular
        rows = getattr(batch, "scan_rows", None)
        further = {name: getattr(batch, name, None) for name in ("offset", "fold")}
        self._whole = spectra, mask, tabular, rows, further
        first, second = split_scans(mask)
        self._paired = mask.sum(dim=1) > 1
        batch.spectra = torch.cat([spectra] * 3)
        batch.mask = torch.cat([mask, first, second])
        batch.tabular = torch.cat([tabular] * 3)
        if rows is not None:
            batch.scan_rows = _rows_of_views(rows, first, self._paired, mask)
        for name, part in further.items():
            if part is not None:
                setattr(batch, name, torch.cat([part] * 3))

    @in_phase(Phase.PREPARE)
    def take_views(self, trainer: Trainer) -> None:
        """Remove the views from the batch and from the model's outputs."""
        state = trainer.state
        batch = state.batch
        batch.spectra, batch.mask, batch.tabular, rows, further = self._whole
        if rows is not None:
            batch.scan_rows = rows
        for name, part in further.items():
            if part is not None:
                setattr(batch, name, part)
        count = len(batch.mask)
        name = self.on or next((n for n in EMBEDDINGS if has_output(state.outputs, n)), None)
        if name is None:
            raise UsageError(f"scan_pairs: the model returns no {' or '.join(EMBEDDINGS)}; set on")
        embeddings = find_output(state.outputs, name)
        if embeddings.ndim != 2 or len(embeddings) != 3 * count:
            raise UsageError(
                f"scan_pairs.on: '{name}' has shape {list(embeddings.shape)}; "
                f"expected [{3 * count}, E], a row per sample"
            )
        self._views = embeddings[count : 2 * count], embeddings[2 * count :]
        state.outputs = map_tensors(
            state.outputs, lambda t: t[:count] if t.ndim and len(t) == 3 * count else t
        )

    def __call__(self, trainer: Trainer) -> None:
        """Add the term."""
        assert self._views is not None
        assert self._paired is not None
        term = info_nce(*self._views, self.temperature, self._paired)
        pairs = self._paired.sum()
        self._pairs = pairs if self._pairs is None else self._pairs + pairs
        self._views = self._paired = None
        losses = trainer.state.losses
        trainer.state.losses = {**losses, TOTAL: losses[TOTAL] + self.weight * term, TERM: term}

    @in_phase(Phase.MEASURE)
    def report(self, trainer: Trainer) -> None:
        """Announce an epoch without any pair."""
        if self._pairs is not None and not int(self._pairs):
            message = "scan_pairs: no sample of this epoch has two scans, so the term is zero"
            trainer.log_event("notice", message=message)
        self._pairs = None

    def reset(self) -> None:
        """Forget the pairs of an unfinished epoch."""
        self._pairs = None


def split_scans(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Split each sample's scans (mask, bool [B, S]) at random into two halves, masks too.

    They share no scan and together hold all; a single scan is in both.
    """
    # Padded scans get the last ranks.
    drawn = torch.rand(mask.shape, device=mask.device).masked_fill(~mask, 2.0)
    rank = drawn.argsort(dim=1).argsort(dim=1)
    count = mask.sum(dim=1, keepdim=True)
    half = count // 2
    return mask & ((rank < half) | (count == 1)), mask & (rank >= half)


def _rows_of_views(rows: Tensor, first: Tensor, paired: Tensor, mask: Tensor) -> Tensor:
    """The rows of the real scans among the 3 B x S, without waiting for their number.

    Each scan is in one half, but single scans are in both: B rows more, filled up by 3 B x S.
    """
    places, samples = mask.numel(), len(mask)
    none = 3 * places
    real = rows < places
    known = torch.where(real, rows, 0)
    in_first = first.flatten()[known]
    whole = torch.where(real, rows, none)
    of_views = torch.where(real, rows + torch.where(in_first, places, 2 * places), none)
    start = torch.arange(samples, device=rows.device) * mask.shape[1]
    single = start + mask.byte().argmax(dim=1) + 2 * places
    return torch.cat([whole, of_views, torch.where(paired, none, single)])
