"""Computing with deterministic algorithms only, so that equal runs are equal bit for bit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from datasets.errors import UsageError

SETTING = "trainer.deterministic"
# cuBLAS reads it when it starts; with either of these values it is deterministic (NVIDIA, cuBLAS,
# "Results reproducibility").
WORKSPACE, WORKSPACES = "CUBLAS_WORKSPACE_CONFIG", (":4096:8", ":16:8")
# What torch says, as a RuntimeError, of an operation without a deterministic form.
NO_FORM = " does not have a deterministic implementation"


@contextmanager
def deterministic_algorithms(device: torch.device | str) -> Iterator[None]:
    """A context in which torch and cuDNN compute with deterministic algorithms only.

    Torch's and cuDNN's settings are afterwards what they were. ``CUBLAS_WORKSPACE_CONFIG`` stays
    set for the process where it was not and the device is a GPU: cuBLAS reads it once.

    Args:
        device: Where to compute.

    Raises:
        UsageError: CUDA started in this process before ``CUBLAS_WORKSPACE_CONFIG`` was set; or an
            operation within the context has no deterministic form.

    Example:
        >>> with deterministic_algorithms("cpu"):
        ...     torch.are_deterministic_algorithms_enabled()
        True
        >>> torch.are_deterministic_algorithms_enabled()
        False
    """
    if torch.device(device).type == "cuda":
        prepare_cublas()
    cudnn = torch.backends.cudnn
    before = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        cudnn.deterministic,
        cudnn.benchmark,
    )
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
        torch.use_deterministic_algorithms(before[0], warn_only=before[1])
        cudnn.deterministic, cudnn.benchmark = before[2:]


def prepare_cublas() -> None:
    """Have cuBLAS compute deterministically; to be called before CUDA starts.

    Raises:
        UsageError: It is too late, or the environment says otherwise.
    """
    value = os.environ.get(WORKSPACE)
    if value in WORKSPACES:
        return
    if value is not None:
        raise UsageError(
            f"{SETTING}: {WORKSPACE} is '{value}' in the environment; expected "
            f"{' or '.join(WORKSPACES)}"
        )
    if torch.cuda.is_initialized():
        raise UsageError(
            f"{SETTING}: CUDA had started in this process before {WORKSPACE} was set; set "
            f"{WORKSPACE}={WORKSPACES[0]} in the environment before the process starts"
        )
    os.environ[WORKSPACE] = WORKSPACES[0]
