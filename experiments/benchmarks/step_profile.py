"""What a step's time is spent on: the device's kernels, or a CPU's operations, in groups."""

from __future__ import annotations

import functools
import json
import re
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

US_PER_MS = 1000.0
STEPS = 10
OTHER = "elementwise, norms, reductions"
# A group's name and what marks the name of a kernel, or of a CPU's operation; the first that fits.
GROUPS = tuple(
    (group, re.compile(pattern, re.IGNORECASE))
    for group, pattern in (
        ("attention", r"flash|fmha|sdpa|attention|cutlassF|cutlassB|compute_dot_do_o|convert_dq"),
        ("optimizer", r"adam|FusedOptimizer"),
        ("clip", r"LpNorm|lpnorm_cleanup|NormTwoOps|_foreach_norm|_foreach_mul|"
                 r"BinaryOpScalarTensor|linalg_vector_norm"),
        ("average", r"lerp"),
        ("matmul", r"gemm|gemv|nvjet|cutlass|splitKreduce|cublas|_tem_fused|"
                   r"^aten::(addmm|mm|bmm|baddbmm|mkldnn_linear)|mkldnn_.*linear|mkl_linear"),
        ("loss", r"nll_loss|log_?softmax|cross_entropy"),
        ("communication", r"nccl|all_?reduce|c10d|gloo"),
        ("copies", r"memcpy|memset|copy|CatArray|aten::(cat|pad|constant_pad_nd|clone|fill_|zero_)|"
                   r"index|gather|scatter|FillFunctor"),
    )
)  # fmt: skip
# Kernels that torch.compile has made of several operations, but for matrix products.
FUSED = re.compile(r"triton_(?!tem_)")
KERNEL_KINDS = ("kernel", "gpu_memcpy", "gpu_memset")


@functools.cache
def group_of(name: str) -> str:
    """The group of a kernel, or of an operation.

    Example:
        >>> group_of("sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64")
        'matmul'
        >>> group_of("triton_per_fused__to_copy_add_native_layer_norm_20")
        'elementwise, norms, reductions'
    """
    if FUSED.match(name):
        return OTHER  # whatever it is called after, it computes on the way
    return next((group for group, pattern in GROUPS if pattern.search(name)), OTHER)


class StepProfile:
    """Profiles steps.

    Args:
        steps: How many.

    Attributes:
        busy_ms: Of a step, how long the GPU's main stream computed or copied; None on a CPU.
        groups: Group -> milliseconds a step, the largest first; of the GPU's main stream, or of
            the CPU's operations themselves, without those that they call.
        names: The same by kernel or operation.
    """

    def __init__(self, steps: int = STEPS) -> None:
        self.steps = steps
        self.busy_ms: float | None = None
        self.groups: dict[str, float] = {}
        self.names: dict[str, float] = {}
        self._on_gpu = False
        self._profile: profile | None = None

    def begin(self, device: torch.device) -> None:
        """Start; what was launched before is done."""
        self._on_gpu = device.type == "cuda"
        kind = ProfilerActivity.CUDA if self._on_gpu else ProfilerActivity.CPU
        self._profile = profile(activities=[kind], acc_events=True)
        self._profile.start()

    def end(self) -> None:
        """Stop, when the steps are done on the device too, and sort what was seen."""
        assert self._profile is not None
        self._profile.stop()
        if self._on_gpu:
            kernels = main_stream(self._trace())
            self._sort((name, name, us) for name, us in kernels)
            self.busy_ms = sum(self.groups.values())
        else:
            self._sort(_operations(self._profile.events()))
        self._profile = None

    def _trace(self) -> list[Mapping[str, Any]]:
        assert self._profile is not None
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "trace.json"
            self._profile.export_chrome_trace(str(path))
            events: list[Mapping[str, Any]] = json.loads(path.read_text("utf-8"))["traceEvents"]
        return events

    def _sort(self, seen: Iterable[tuple[str, str, float]]) -> None:
        groups: Counter[str] = Counter()
        names: Counter[str] = Counter()
        for name, decisive, us in seen:
            groups[group_of(decisive)] += us / US_PER_MS / self.steps  # type: ignore[assignment]
            names[name] += us / US_PER_MS / self.steps  # type: ignore[assignment]
        self.groups, self.names = dict(groups.most_common()), dict(names.most_common())


def main_stream(events: Iterable[Mapping[str, Any]]) -> list[tuple[str, float]]:
    """Kernels and copies of the stream that has most to do: names and microseconds.

    Args:
        events: Of a trace as ``torch.profiler`` exports it.
    """
    streams: dict[Any, list[tuple[str, float]]] = defaultdict(list)
    for event in events:
        if event.get("cat") in KERNEL_KINDS:
            stream = event.get("args", {}).get("stream")
            streams[stream].append((event["name"], float(event["dur"])))
    return max(streams.values(), key=lambda seen: sum(us for _, us in seen), default=[])


def _operations(events: Any) -> Iterator[tuple[str, str, float]]:
    """A CPU's operations: name, the name that decides on the group, own microseconds."""
    for event in events:
        decisive, caller = event.name, event.cpu_parent
        while caller is not None:
            # What a list's operation calls for each tensor is called as everywhere else.
            if "_foreach_" in caller.name or "attention" in caller.name:
                decisive = caller.name
            caller = caller.cpu_parent
        yield event.name, decisive, float(event.self_cpu_time_total)
