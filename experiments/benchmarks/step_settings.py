"""What a training step is measured on: its sizes, how it is computed, and the trainer that does it.

A variant is named by its parts, joined by dashes: a precision, then any of ``packed`` (compute the
real scans only), ``compiled``, ``regional`` or ``graphs`` (:class:`handlers.compile.Compile`), and
``checkpointed`` (keep no activations within a transformer block): ``bf16-packed-graphs``.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
import torch

from datasets.batches import Batch, Sample, pad_collate
from datasets.errors import UsageError, nearest
from engine import EpochMetrics, Trainer, build_optimizer
from engine.protocols import Handler
from experiments.config import SHARED_ROWS
from handlers.compile import Compile
from handlers.ema import EMA
from handlers.gradient_clipping import GradientClipping
from handlers.lr_schedule import LRSchedule
from handlers.mixed_precision import PRECISIONS, MixedPrecision
from models.tft_loss import TFTLoss
from models.tft_models import TFTMultimodal

COMPILE_MODES = {"compiled": "default", "regional": "regional", "graphs": "graphs"}
PACKED, CHECKPOINTED = "packed", "checkpointed"
CLASSES = 2
WARMUP_STEPS = 100
# One epoch that no measurement gets to the end of.
ENDLESS = 10**9


@dataclass(frozen=True)
class StepSize:
    """The sizes of a step.

    Attributes:
        samples: B, a batch.
        scans: S, the most that a sample has.
        points: L, of a scan.
        valid: Share of the B x S scans that are real; the numbers of scans spread as evenly around
            it as they can.
        d_model: Features of a token.
        layers: Transformer blocks.
        heads: Of attention.
        patch: Points of a token.
        covariates: D.
    """

    samples: int = 32
    scans: int = 8
    points: int = 2048
    valid: float = 0.5
    d_model: int = 64
    layers: int = 2
    heads: int = 4
    patch: int = 32
    covariates: int = 24


# A GPU has the room for what a large study needs; on a CPU the model's own sizes.
SIZES = {
    "cpu": StepSize(),
    "cuda": StepSize(samples=64, scans=16, points=4096, valid=0.54, d_model=256, heads=8, patch=16),
}


def add_size_options(parser: argparse.ArgumentParser) -> None:
    """An option for each size; the device's own where it is not given."""
    for each in fields(StepSize):
        kind = float if each.name == "valid" else int
        parser.add_argument(f"--{each.name.replace('_', '-')}", type=kind)


def read_size(options: argparse.Namespace, device: torch.device) -> StepSize:
    """The sizes that were asked for.

    Raises:
        UsageError: One is out of range.
    """
    named = {each.name: getattr(options, each.name) for each in fields(StepSize)}
    given = {name: value for name, value in named.items() if value is not None}
    size = replace(SIZES[device.type], **given)
    for name, value in vars(size).items():
        if name == "valid" and not 1 / size.scans <= value <= 1:
            raise UsageError(f"--valid must be a share from 1 / scans to 1, not {value:g}")
        if value < 1 and name != "valid":
            raise UsageError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    if size.d_model % size.heads:
        raise UsageError(f"--heads: {size.heads} does not divide --d-model {size.d_model}")
    return size


@dataclass(frozen=True)
class Variant:
    """How a step is computed.

    Attributes:
        precision: A key of ``PRECISIONS``.
        packed: Compute the real scans only.
        compiled: A key of ``COMPILE_MODES``, or None.
        checkpointed: Keep no activations within a transformer block.
    """

    precision: str = "fp32"
    packed: bool = False
    compiled: str | None = None
    checkpointed: bool = False

    @property
    def name(self) -> str:
        """The parts, joined by dashes."""
        parts = (
            self.precision,
            PACKED if self.packed else None,
            self.compiled,
            CHECKPOINTED if self.checkpointed else None,
        )
        return "-".join(part for part in parts if part)


def parse_variant(name: str) -> Variant:
    """The variant of a name.

    Raises:
        UsageError: It has a part that is unknown.

    Example:
        >>> parse_variant("bf16-packed-graphs").compiled
        'graphs'
    """
    precision, *others = name.split("-")
    if precision not in PRECISIONS:
        raise UsageError(f"variant '{name}': no precision{nearest(precision, PRECISIONS)}")
    variant = Variant(precision)
    for part in others:
        if part == PACKED:
            variant = replace(variant, packed=True)
        elif part == CHECKPOINTED:
            variant = replace(variant, checkpointed=True)
        elif part in COMPILE_MODES:
            variant = replace(variant, compiled=part)
        else:
            choices = nearest(part, [PACKED, *COMPILE_MODES, CHECKPOINTED])
            raise UsageError(f"variant '{name}': '{part}' is unknown{choices}")
    return variant


def draw_counts(size: StepSize, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Numbers of scans, [samples], from 1 to S, in random order, ``valid`` x S on average.

    Example:
        >>> counts = draw_counts(StepSize(scans=16, valid=0.54), 10_000, np.random.default_rng(0))
        >>> int(counts.min()), int(counts.max()), round(float(counts.mean()) / 16, 2)
        (1, 16, 0.54)
    """
    mean = size.valid * size.scans
    reach = min(mean - 1, size.scans - mean)
    # Evenly spaced rather than drawn: so few are off their mean by several percent else.
    places = (rng.permutation(samples) + 0.5) / samples
    return np.rint(mean - reach + 2 * reach * places).astype(np.int64)


def draw_batches(size: StepSize, count: int, device: torch.device, seed: int = 0) -> list[Batch]:
    """Batches of noise that lie on the device.

    Args:
        size: Of each.
        count: How many.
        device: Where they stay.
        seed: Of the noise.
    """
    rng = np.random.default_rng(seed)
    counts = draw_counts(size, count * size.samples, rng).reshape(count, size.samples)
    return [draw_batch(size, of_each, rng, device) for of_each in counts]


def draw_batch(
    size: StepSize, counts: np.ndarray, rng: np.random.Generator, device: torch.device
) -> Batch:
    """A batch of noise, S wide, that lies on the device.

    Args:
        size: Of its samples.
        counts: The number of scans of each, [B].
        rng: Of the noise.
        device: Where it stays.
    """
    samples = [
        Sample(
            rng.standard_normal((scans, size.points), np.float32),
            rng.standard_normal(size.covariates, np.float32),
            int(rng.integers(CLASSES)),
            str(number),
        )
        for number, scans in enumerate(counts)
    ]
    return pad_collate(samples, pad_rows_to=SHARED_ROWS, pad_scans_to=size.scans).to(device)


def unfilled(batch: Batch) -> Batch:
    """The batch without the rows that fill it up: what is not compiled has no use for them."""
    assert batch.scan_rows is not None
    return replace(batch, scan_rows=batch.scan_rows[: int(batch.mask.sum())])


class Repeated:
    """The same batches again and again, as a loader.

    Args:
        batches: What it yields.
        length: How many it yields.

    Example:
        >>> list(Repeated("ab", 3))
        ['a', 'b', 'a']
    """

    def __init__(self, batches: Sequence[Any], length: int = ENDLESS) -> None:
        self.batches = batches
        self.length = length

    def __len__(self) -> int:
        """Batches in an epoch."""
        return self.length

    def __iter__(self) -> Iterator[Any]:
        """An epoch."""
        return itertools.islice(itertools.cycle(self.batches), self.length)


def make_model(size: StepSize, variant: Variant, seed: int = 0) -> TFTMultimodal:
    """The model; the same weights for the same seed."""
    torch.manual_seed(seed)
    return TFTMultimodal(
        size.covariates,
        size.points,
        num_classes=CLASSES,
        patch_size=size.patch,
        d_model=size.d_model,
        num_layers=size.layers,
        num_heads=size.heads,
        packed=variant.packed,
        activation_checkpointing=variant.checkpointed,
    )


def make_trainer(
    size: StepSize, variant: Variant, device: torch.device, handlers: Sequence[Handler] = ()
) -> Trainer:
    """A trainer with what a run usually has: clipping, EMA, schedule, precision and metrics.

    Args:
        size: Of the model.
        variant: How to compute.
        device: Where.
        handlers: Attached to it too, before what compiles the model.

    Raises:
        UsageError: The variant cannot be had here.
    """
    model = make_model(size, variant)
    trainer = Trainer(model, build_optimizer(model), TFTLoss(), device)
    EpochMetrics(prefix="train/").attach(trainer)
    trainer.attach(
        MixedPrecision(variant.precision),
        GradientClipping(),
        EMA(),
        LRSchedule(warmup_steps=WARMUP_STEPS),
        *handlers,
    )
    if variant.compiled:
        trainer.attach(Compile(COMPILE_MODES[variant.compiled]))
    return trainer
