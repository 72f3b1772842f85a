"""How much of a step is work that has to be done, and how fast the device could do it."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from torch import nn

from engine.precision import has_bf16_instructions
from models.tft_models import TFTMultimodal

# Dense bf16 matrix products with fp32 sums, FLOP/s, by a part of the device's name, the first that
# fits: NVIDIA's data sheets of H100, H200 and A100 (half of what they say "with sparsity").
PEAKS = {
    "H100 PCIe": 756e12,
    "H100 NVL": 835.5e12,
    "H200 NVL": 835.5e12,
    "H100": 989.4e12,
    "H200": 989.4e12,
    "A100": 312e12,
}
# Side of the matrices by which an unknown device is measured, and how often.
PRODUCT_SIDE = {"cpu": 1024, "cuda": 8192}
PRODUCT_TRIES = 5

# How often a linear layer is applied, by how the layer's name begins; the first that fits.
TOKEN, SCAN, COVARIATE, SAMPLE = "token", "scan", "covariate", "sample"
APPLIED = (
    ("spectra_encoder.vector", SCAN),
    ("spectra_encoder.whole_scan", SCAN),
    ("spectra_encoder", TOKEN),
    ("scan_pooling", SCAN),
    ("scan_tokens", SCAN),
    # Keys and values are those of the other side.
    ("cross_modal.attend.scans.key_value", COVARIATE),
    ("cross_modal.attend.covariates.key_value", SCAN),
    ("cross_modal.attend.scans", SCAN),
    ("cross_modal.feed_forward.scans", SCAN),
    ("cross_modal", COVARIATE),
    ("", SAMPLE),
)
# What reads the batch itself, to which no gradient flows.
READS_THE_BATCH = (
    "spectra_encoder.patches.projections",
    "spectra_encoder.whole_scan.hidden.0",
    "spectra_encoder.whole_scan.points",
    "tabular_encoder.gate",
)


def useful_flops(model: TFTMultimodal, samples: int, scans: int) -> int:
    """Floating point operations of the matrix products that a training step cannot do without.

    A product [n, k] x [k, m] counts 2 n k m. Counted are all linear layers, attention, pooling and
    the loss's similarities, forward once and backward twice (for the weights and for the inputs;
    for the weights alone where the input is the batch), over the real scans alone. Norms,
    activations, the optimiser and whatever is computed a second time are not.

    Args:
        model: Whose step.
        samples: B.
        scans: Real ones in the batch, of all samples together.

    Example:
        >>> model = TFTMultimodal(tab_dim=3, spec_len=64, patch_size=16, d_model=16)
        >>> useful_flops(model, 2, 8) > useful_flops(model, 2, 4)
        True
    """
    linear = [
        (name, 2 * times * layer.in_features * layer.out_features)
        for name, layer, times in _layers(model, samples, scans)
    ]
    forward = sum(flops for _, flops in linear) + _products(model, samples, scans)
    # The components are not trained: forward only.
    components = 2 * scans * model.spectra_encoder.whole_scan.components.rotation.numel()
    to_the_batch = sum(flops for name, flops in linear if name.startswith(READS_THE_BATCH))
    return 3 * forward + components - to_the_batch


def _layers(model: TFTMultimodal, samples: int, scans: int) -> Iterator[tuple[str, nn.Linear, int]]:
    """Every linear layer with its name and how many rows it is applied to."""
    rows = {
        TOKEN: scans * model.spectra_encoder.patches.num_patches,
        SCAN: scans,
        COVARIATE: samples * model.covariate_tokens.direction.shape[0],
        SAMPLE: samples,
    }
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear):
            kind = next(kind for prefix, kind in APPLIED if name.startswith(prefix))
            yield name, layer, rows[kind]


def _products(model: TFTMultimodal, samples: int, scans: int) -> int:
    """The forward products of two activations."""
    tokens, width = model.spectra_encoder.positions.shape
    covariates = model.covariate_tokens.direction.shape[0]
    spec_emb, projected = model.spectra_encoder.spec_emb, model.projection_spec.out_features
    # Scores, and what they weigh: two products a head, which together are as wide as a token.
    within_scans = 4 * scans * tokens * tokens * width * len(model.spectra_encoder.blocks)
    between_modalities = 2 * 4 * scans * covariates * width
    pooling = 2 * scans * (tokens * width + spec_emb + width)
    similarities = 2 * samples * samples * projected
    return within_scans + between_modalities + pooling + similarities


def peak_rate(device: torch.device) -> tuple[float, str]:
    """What the device can do, FLOP/s, and where that is known from."""
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        for part, rate in PEAKS.items():
            if part in name:
                return rate, f"{name}, data sheet (bf16, dense)"
    dtypes = [torch.float32]
    # A processor without instructions for bfloat16 takes seconds for a product, and is slower.
    if device.type != "cpu" or has_bf16_instructions() is not False:
        dtypes.append(torch.bfloat16)
    measured = {dtype: _measured(device, dtype) for dtype in dtypes}
    fastest = max(measured, key=lambda dtype: measured[dtype])
    return measured[fastest], f"measured: a product of large matrices in {str(fastest)[6:]}"


def _measured(device: torch.device, dtype: torch.dtype) -> float:
    side = PRODUCT_SIDE[device.type]
    left, right = (torch.ones(side, side, dtype=dtype, device=device) for _ in range(2))
    best = math.inf
    for _ in range(PRODUCT_TRIES):
        began = time.perf_counter()
        left @ right
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        best = min(best, time.perf_counter() - began)
    return float(2 * side**3 / best)
