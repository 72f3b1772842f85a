"""Random number states, and deterministic algorithms."""

import os
import random
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from ignite.utils import manual_seed

from datasets.errors import UsageError


def seed_apart(rank: int) -> None:
    """Reseed all streams from torch's present state, differently for each rank."""
    here = zlib.crc32(torch.get_rng_state().numpy().tobytes())
    manual_seed(int(np.random.SeedSequence((here, rank)).generate_state(1)[0]))


def capture_rng() -> dict[str, Any]:
    """The state of all streams, in tensors and plain types."""
    name, keys, *rest = np.random.get_state(legacy=True)
    return {
        "python": random.getstate(),
        "numpy": (name, np.asarray(keys).tolist(), *rest),
        "torch": torch.get_rng_state(),
        # A device that nothing has used has drawn nothing, and asking would make a context on it.
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
    }


def restore_rng(state: Mapping[str, Any]) -> None:
    """Restore all streams from :func:`capture_rng`, of the CUDA devices that exist here."""
    random.setstate(state["python"])
    np.random.set_state(state["numpy"])
    torch.set_rng_state(state["torch"].cpu())
    for device in range(min(len(state["cuda"]), torch.cuda.device_count())):
        torch.cuda.set_rng_state(state["cuda"][device].cpu(), device)


@contextmanager
def preserve_rng_state() -> Iterator[None]:
    """A context that restores all streams at its end."""
    state, seed = capture_rng(), torch.initial_seed()
    try:
        yield
    finally:
        restore_rng(state)
        if not state["cuda"] and torch.cuda.is_initialized():
            # CUDA started in the context: its streams begin again with the seed that waited.
            torch.cuda.manual_seed_all(seed)


SETTING = "trainer.deterministic"
# cuBLAS reads it when it starts; with either of these values it is deterministic (NVIDIA, cuBLAS,
# "Results reproducibility").
WORKSPACE, WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
# Text of torch's RuntimeError for an operation without a deterministic form.
NO_FORM = " does not have a deterministic implementation"


@contextmanager
def deterministic_algorithms(device: torch.device | str) -> Iterator[None]:
    """Only deterministic algorithms of torch and cuDNN; UsageError for an operation without one."""
    if torch.device(device).type == "cuda":
        prepare_cublas()
    cudnn = torch.backends.cudnn
    mode, before = torch.get_deterministic_debug_mode(), (cudnn.deterministic, cudnn.benchmark)
    torch.use_deterministic_algorithms(True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    except RuntimeError as error:
        operation, found, _ = str(error).partition(NO_FORM)
        if not found:
            raise
        raise UsageError(
            f"{SETTING}: the operation {operation} has no deterministic form on this device; set "
            f"{SETTING} to false, or choose a model, a loss or handlers without it"
        ) from error
    finally:
        torch.set_deterministic_debug_mode(mode)
        cudnn.deterministic, cudnn.benchmark = before


def prepare_cublas() -> None:
    """Make cuBLAS deterministic; UsageError if CUDA has started or the variable differs."""
    value = os.environ.get(WORKSPACE)
    if value in WORKSPACES:
        return
    if value is not None:
        expected = " or ".join(WORKSPACES)
        found = f"{WORKSPACE} is '{value}' in the environment"
        raise UsageError(f"{SETTING}: {found}; expected {expected}")
    if torch.cuda.is_initialized():
        raise UsageError(
            f"{SETTING}: CUDA had started in this process before {WORKSPACE} was set; set "
            f"{WORKSPACE}={WORKSPACES[0]} in the environment before the process starts"
        )
    os.environ[WORKSPACE] = WORKSPACES[0]
