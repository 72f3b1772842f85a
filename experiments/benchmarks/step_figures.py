"""Measuring variants of a training step side by side."""

from __future__ import annotations

import contextlib
import functools
import statistics
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from datasets.batches import Batch
from datasets.errors import UsageError
from experiments.benchmarks.step_clock import MS_PER_S, StepClock
from experiments.benchmarks.step_memory import StepMemory
from experiments.benchmarks.step_profile import StepProfile
from experiments.benchmarks.step_settings import (
    Repeated,
    StepSize,
    Variant,
    draw_batches,
    make_trainer,
    unfilled,
)
from experiments.benchmarks.useful_work import useful_flops

# Different ones, so that numbers of scans vary from step to step.
BATCHES = {"cpu": 4, "cuda": 8}
WARMUP = {"cpu": 4, "cuda": 8}
# Each batch is seen often enough for its graph to be recorded: after two runs without one.
WARMUP_COMPILED = {"cpu": 4, "cuda": 32}
# What a process does once, loading kernels and making workspaces, is done on these.
FIRST = StepSize(samples=2, scans=2, points=64, d_model=16, heads=2, patch=16, covariates=2)


@dataclass(frozen=True)
class Effort:
    """How long to measure.

    Attributes:
        seconds: Each variant in each round.
        steps: So many steps instead; None for the seconds.
        warmup: Steps before; None for the device's usual number.
        profiled: Steps that are profiled after them; 0 for none.
    """

    seconds: float
    steps: int | None = None
    warmup: int | None = None
    profiled: int = 0


@dataclass
class Figures:
    """What was measured of one variant.

    Attributes:
        samples: B.
        scans: Real ones a step, on average.
        useful: FLOP a step that are needed (:func:`useful_flops`).
        rounds: Each round's median, milliseconds a step.
        mebibytes: Peak of the memory, over the rounds.
        reserved: The same of what the allocator took.
        busy_ms: Of a step, the time in which the GPU's main stream was busy; None where unknown.
        groups: Milliseconds a step by group of kernels, from the first round.
        names: The same by kernel.
    """

    samples: int
    scans: float
    useful: float
    rounds: list[float] = field(default_factory=list)
    mebibytes: float = 0.0
    reserved: float = 0.0
    busy_ms: float | None = None
    groups: dict[str, float] = field(default_factory=dict)
    names: dict[str, float] = field(default_factory=dict)

    @property
    def ms(self) -> float:
        """Milliseconds a step."""
        return statistics.median(self.rounds)

    @property
    def samples_per_s(self) -> float:
        """Samples a second."""
        return self.samples / self.ms * MS_PER_S

    @property
    def scans_per_s(self) -> float:
        """Real scans a second."""
        return self.scans / self.ms * MS_PER_S

    def times_faster(self, reference: Figures) -> float:
        """How much faster than another, within each round."""
        pairs = zip(self.rounds, reference.rounds, strict=False)
        return statistics.median(theirs / own for own, theirs in pairs)

    def plain(self, reference: Figures, peak: float) -> dict[str, Any]:
        """As JSON takes it; ``peak`` in FLOP/s."""
        return {
            "ms": self.ms,
            "samples_per_s": self.samples_per_s,
            "scans_per_s": self.scans_per_s,
            "ratio": self.times_faster(reference),
            "peak_mib": self.mebibytes,
            "reserved_mib": self.reserved,
            "busy_ms": self.busy_ms,
            "useful_gflop": self.useful / 1e9,
            "useful_share": self.useful / (self.ms / MS_PER_S) / peak,
            "round_ms": self.rounds,
            "groups": self.groups,
        }


def measure_once(
    size: StepSize, variant: Variant, batches: Sequence[Batch], device: torch.device, effort: Effort
) -> Figures:
    """Train for a while.

    Args:
        size: Of the model.
        variant: How to compute.
        batches: On the device, filled up.
        device: Where.
        effort: How long.

    Raises:
        UsageError: The variant cannot be had here.
    """
    profile = StepProfile(effort.profiled) if effort.profiled else None
    usual = WARMUP_COMPILED if variant.compiled else WARMUP
    warmup = usual[device.type] if effort.warmup is None else effort.warmup
    if not variant.compiled:
        batches = [unfilled(batch) for batch in batches]
    memory = StepMemory(device)
    with contextlib.ExitStack() as watched:
        watched.enter_context(memory)
        clock = StepClock(
            effort.seconds, warmup, effort.steps, profile=profile, when_timed=watched.close
        )
        trainer = make_trainer(size, variant, device, [clock])
        trainer.fit(Repeated(batches), max_epochs=1)
    scans = sum(int(batch.mask.sum()) for batch in batches) / len(batches)
    figures = Figures(
        size.samples, scans, useful_flops(trainer.model, size.samples, round(scans))  # type: ignore[arg-type]
    )  # fmt: skip
    figures.rounds.append(clock.median_ms)
    figures.mebibytes, figures.reserved = memory.mebibytes, memory.reserved
    if profile is not None:
        figures.busy_ms, figures.groups, figures.names = (
            profile.busy_ms,
            profile.groups,
            profile.names,
        )
    return figures


def measure_all(
    size: StepSize,
    variants: Sequence[Variant],
    device: torch.device,
    effort: Effort,
    rounds: int = 1,
    say: Callable[[str], None] = lambda line: print(line, file=sys.stderr, flush=True),
) -> tuple[dict[str, Figures], dict[str, str]]:
    """Measure the variants in turn, every second round backwards.

    A variant that cannot be had, or fails, is left out and does not keep the others from being
    measured.

    Args:
        size: Of the batches and of the model.
        variants: How to compute.
        device: Where.
        effort: How long each.
        rounds: How often; profiled is the first time only.
        say: Told of each figure as it comes.

    Returns:
        Name -> figures, and name -> why it was left out.
    """
    for precision in {variant.precision for variant in variants}:
        _do_first_things(precision, device)
    batches = draw_batches(size, BATCHES[device.type], device)
    found: dict[str, Figures] = {}
    left_out: dict[str, str] = {}
    for number in range(rounds):
        for variant in variants if number % 2 == 0 else variants[::-1]:
            name = variant.name
            if name in left_out:
                continue
            once = Effort(
                effort.seconds, effort.steps, effort.warmup, 0 if number else effort.profiled
            )
            try:
                figures = measure_once(size, variant, batches, device, once)
            except UsageError as error:
                left_out[name] = str(error)
            except Exception as error:  # no memory, the compiler, or a bug: the traceback tells
                left_out[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                traceback.print_exc()
            else:
                say(f"{name}: {figures.ms:.2f} ms")
                _add(found, name, figures)
            # Compiled code and recorded graphs hold memory that the next one should have.
            if variant.compiled:
                torch.compiler.reset()
    return {v.name: found[v.name] for v in variants if v.name in found}, left_out


@functools.cache
def _do_first_things(precision: str, device: torch.device) -> None:
    """Once in a process: what the first step does would count as the first variant's."""
    first = draw_batches(FIRST, 1, device)
    measure_once(FIRST, Variant(precision), first, device, Effort(0.0, steps=1, warmup=1))


def _add(found: dict[str, Figures], name: str, figures: Figures) -> None:
    known = found.setdefault(name, figures)
    if known is not figures:
        known.rounds += figures.rounds
        known.mebibytes = max(known.mebibytes, figures.mebibytes)
        known.reserved = max(known.reserved, figures.reserved)
