"""The memory that training steps take at their most, on whichever device."""

from __future__ import annotations

import ctypes
import gc
import sys

import torch

from experiments.benchmarks.peak_memory import MEBIBYTE, PeakMemory


class StepMemory:
    """Watches memory while it is entered.

    On a GPU it is what torch's allocator handed out, above what was in use when it was entered; on
    a CPU how far the memory of the process rose. Both begin with what is left of earlier work
    given back.

    Args:
        device: Whose memory.

    Attributes:
        mebibytes: At its most; NaN on a CPU whose system does not tell.
        reserved: On a GPU, what the allocator had taken for that at its most, CUDA graphs'
            memory and gaps included; as ``mebibytes`` on a CPU.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.mebibytes = self.reserved = float("nan")
        self._resident = PeakMemory()
        self._before = (0, 0)

    def __enter__(self) -> StepMemory:
        """Start watching."""
        release_memory()
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
            self._before = (
                torch.cuda.memory_allocated(self.device),
                torch.cuda.memory_reserved(self.device),
            )
        else:
            self._resident.__enter__()
        return self

    def __exit__(self, *exception: object) -> None:
        """Stop watching."""
        if self.device.type == "cuda":
            allocated, reserved = self._before
            self.mebibytes = (torch.cuda.max_memory_allocated(self.device) - allocated) / MEBIBYTE
            self.reserved = (torch.cuda.max_memory_reserved(self.device) - reserved) / MEBIBYTE
        else:
            self._resident.__exit__(None, None, None)
            self.mebibytes = self.reserved = self._resident.mebibytes


def release_memory() -> None:
    """Give back what nobody refers to any more: to the GPU, and to the system where glibc can."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)
