from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from experiments.benchmarks import useful_work
from experiments.benchmarks.step_settings import StepSize, Variant, draw_batches, make_model
from experiments.benchmarks.useful_work import PEAKS, peak_rate, useful_flops
from models.tft_loss import TFTLoss

CPU = torch.device("cpu")
# One head: of several, pooling computes more than it needs.
TINY = StepSize(
    samples=4, scans=3, points=100, valid=1.0, d_model=16, heads=1, patch=16, covariates=5
)


def counted(size, packed):
    """What torch counts in a step, and what the function says, of the same batch."""
    (batch,) = draw_batches(size, 1, CPU)
    model = make_model(size, Variant(packed=packed))
    # The fused kernel is not counted on a CPU.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        outputs = model(batch.spectra, batch.mask, batch.tabular)
        TFTLoss()(outputs, batch.target)["total_loss"].backward()
    scans = int(batch.mask.sum())
    return counter.get_total_flops(), useful_flops(model, size.samples, scans)


@pytest.mark.parametrize("layers", [1, 3])
def test_it_is_what_torch_counts_where_all_scans_are_real(layers):
    found, expected = counted(replace(TINY, layers=layers), packed=True)
    assert found == expected


def test_a_packed_step_does_little_more_than_it_has_to():
    size = replace(TINY, scans=6, valid=0.5, points=800, d_model=64)
    found, useful = counted(size, packed=True)
    padded, same = counted(size, packed=False)
    assert useful == same
    # Between the modalities a sample's scans are computed padded.
    assert useful < found < 1.1 * useful
    assert padded > 1.5 * useful


def test_a_known_gpu_is_held_against_its_data_sheet(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "NVIDIA H100 80GB HBM3")
    rate, source = peak_rate(torch.device("cuda"))
    assert rate == PEAKS["H100"] == 989.4e12
    assert "data sheet" in source


@pytest.mark.parametrize(
    ("has", "products"),
    [(False, ["float32"]), (True, ["float32", "bfloat16"]), (None, ["float32", "bfloat16"])],
)
def test_an_unknown_device_is_measured_by_products_that_it_can_be_fast_at(
    monkeypatch, has, products
):
    monkeypatch.setattr(useful_work, "PRODUCT_SIDE", {"cpu": 256})
    monkeypatch.setattr(useful_work, "has_bf16_instructions", lambda: has)
    rates: dict[str, float] = {}
    measure = useful_work._measured

    def measured(device, dtype):
        rates[str(dtype)[6:]] = rate = measure(device, dtype)
        return rate

    monkeypatch.setattr(useful_work, "_measured", measured)
    rate, source = peak_rate(CPU)
    assert list(rates) == products
    fastest = max(rates, key=lambda name: rates[name])
    assert rate == rates[fastest] > 1e9
    assert source == f"measured: a product of large matrices in {fastest}"
