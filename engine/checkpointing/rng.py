"""The random number streams of a process, saved and restored together."""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch


def seed_everything(seed: int) -> None:
    """Seed Python's, NumPy's and torch's (CPU and CUDA) streams.

    Args:
        seed: At least 0, below 2**32 (NumPy's limit).
    """
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)


def seed_apart(rank: int) -> None:
    """Seed all streams anew from where torch's stands, differently for each process.

    Processes that were seeded alike, so that their models begin with the same weights, so get
    dropout of their own; equal runs get equal streams.

    Args:
        rank: The process's.
    """
    here = zlib.crc32(torch.get_rng_state().numpy().tobytes())
    seed_everything(int(np.random.SeedSequence((here, rank)).generate_state(1)[0]))


def capture_rng() -> dict[str, Any]:
    """The state of all streams, in tensors and plain types."""
    name, keys, position, has_gauss, cached = np.random.get_state(legacy=True)
    version, internal, gauss = random.getstate()
    return {
        "python": [version, list(internal), gauss],
        "numpy": [str(name), [int(key) for key in keys], int(position), int(has_gauss), cached],
        "torch": torch.get_rng_state(),
        # A device that nothing has used has drawn nothing, and asking would make a context on it.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_rng(state: Mapping[str, Any]) -> None:
    """Set all streams back to what :func:`capture_rng` saw.

    A state from a machine with another number of CUDA devices restores those both have.
    """
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    torch.set_rng_state(state["torch"].cpu())
    for device in range(min(len(state["cuda"]), torch.cuda.device_count())):
        torch.cuda.set_rng_state(state["cuda"][device].cpu(), device)


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """A context that leaves all streams as it found them, whatever is drawn in it.

    Example:
        >>> before = torch.get_rng_state()
        >>> with preserve_rng_state():
        ...     drawn = torch.rand(3)
        >>> torch.equal(before, torch.get_rng_state())
        True
    """
    # In the streams' own types: a state that can be saved would have to be converted, and back.
    python, numpy, cpu = random.getstate(), np.random.get_state(), torch.get_rng_state()
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else None
    seed = torch.initial_seed()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
        torch.set_rng_state(cpu)
        if cuda is None and torch.cuda.is_initialized():
            # CUDA started in the context: its streams begin again with the seed that waited.
            torch.cuda.manual_seed_all(seed)
        for device, state in enumerate(cuda or []):
            torch.cuda.set_rng_state(state, device)
