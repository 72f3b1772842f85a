from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from experiments.benchmarks.step_profile import OTHER, StepProfile, group_of, main_stream

# Names as CUDA's libraries and torch give them.
KERNELS = {
    "attention": [
        "void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<...>",
        "cudnn_generated_fort_native_sdpa_sm90_flash_bprop_wgmma_f16_knob_3_64x128x32",
        "fmha_cutlassF_f32_aligned_64x64_rf_sm80(PyTorchMemEffAttention::AttentionKernel<...>)",
    ],
    "matmul": [
        "sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize1x1x1",
        "nvjet_tst_128x256_64x4_1x2_h_bz_coopA_NTN",
        "void cutlass::Kernel2<cutlass_80_tensorop_bf16_s16816gemm_relu_bf16_128x128_64x4_nn>",
        "void gemv2T_kernel_val<int, int, float, float, float, float, 128, 16, 4, 4>",
    ],
    "optimizer": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous "
        "namespace)::FusedOptimizerTensorListMetadata<4>, FusedAdamMathFunctor<float, 4>>",
    ],
    "clip": [
        "void at::native::(anonymous namespace)::multi_tensor_apply_kernel<TensorListMetadata<1>, "
        "LpNormFunctor<float, NormType::L2, float, 1, 1, 0>>",
        "void at::native::lpnorm_cleanup<float, NormType::L2, float, float>",
    ],
    "average": [
        "void multi_tensor_apply_kernel<TensorListMetadata<2>, TernaryOpScalarFunctor<float, 2, 2, "
        "0>, at::native::LerpFunctor<float>, float>",
    ],
    "copies": ["Memcpy HtoD (Pinned -> Device)", "void at::native::CatArrayBatchedCopy<...>"],
    "loss": ["void at::native::nll_loss_forward_reduce_cuda_kernel_2d<float, float, long>"],
    "communication": ["ncclDevKernel_AllReduce_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)"],
    OTHER: [
        "void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<float, float>",
        "triton_per_fused_add_gelu_native_layer_norm_12",
        "void at::native::vectorized_elementwise_kernel<4, at::native::GeluCUDAKernelImpl...>",
    ],
}


@pytest.mark.parametrize(
    ("group", "name"), [(group, name) for group, names in KERNELS.items() for name in names]
)
def test_kernels_are_sorted_by_their_names(group, name):
    assert group_of(name) == group


def kernel(name, us, stream, kind="kernel"):
    return {"ph": "X", "cat": kind, "name": name, "dur": us, "args": {"stream": stream}}


def test_the_busiest_stream_counts_and_nothing_twice():
    events = [
        kernel("gemm", 40.0, 7),
        kernel("Memcpy DtoD", 5.0, 7, "gpu_memcpy"),
        kernel("Memcpy HtoD", 30.0, 13, "gpu_memcpy"),
        kernel("Optimizer.step#AdamW.step", 500.0, 7, "gpu_user_annotation"),
        {"ph": "X", "cat": "cuda_runtime", "name": "cudaLaunchKernel", "dur": 900.0, "args": {}},
        {"ph": "M", "name": "process_name", "args": {"name": "python"}},
    ]
    assert main_stream(events) == [("gemm", 40.0), ("Memcpy DtoD", 5.0)]
    assert main_stream([]) == []


def test_a_gpus_time_is_that_of_its_kernels_a_step():
    events = [kernel("gemm", 4000.0, 7), kernel("gemm", 2000.0, 7), kernel("Memset", 1000.0, 7)]

    def export(path):
        Path(path).write_text(json.dumps({"traceEvents": events}))

    profile = StepProfile(steps=2)
    taken: Any = SimpleNamespace(stop=lambda: None, export_chrome_trace=export)
    profile._on_gpu, profile._profile = True, taken
    profile.end()
    assert profile.busy_ms == 3.5
    assert profile.groups == {"matmul": 3.0, "copies": 0.5}


def test_a_processors_operations_are_sorted_each_by_what_it_does_itself():
    profile = StepProfile(steps=2)
    matrix, parameters = torch.ones(200, 200), [torch.ones(10) for _ in range(3)]
    profile.begin(torch.device("cpu"))
    for _ in range(2):
        matrix @ matrix
        torch._foreach_lerp_(parameters, [p.clone() for p in parameters], 0.5)
    profile.end()
    assert profile.busy_ms is None
    assert profile.groups["matmul"] > 0
    assert profile.groups["average"] > 0
    assert profile.groups["copies"] > 0
    assert list(profile.groups.values()) == sorted(profile.groups.values(), reverse=True)
    assert sum(profile.groups.values()) == pytest.approx(sum(profile.names.values()))
