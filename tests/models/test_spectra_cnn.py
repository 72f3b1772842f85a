"""The residual network: positions, packing, and norms that stay within a scan."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from models.baseline_models import ResidualBlock, SpectraCNN, SpectraCNNEncoder
from tests.models.small_batch import SPEC_LEN, SmallBatch
from tests.models.test_spectra_encoder import PEAK_AXIS, auroc, peaks, silence_whole_scan

TRAINING_STEPS = 60


@pytest.mark.slow
def test_where_a_peak_stands_is_learnt() -> None:
    torch.manual_seed(0)
    model = SpectraCNN(PEAK_AXIS, spec_emb=16, channels=(8, 16))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    scans, target = peaks(64, seed=1)
    mask = torch.ones(64, 1, dtype=torch.bool)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(model(scans, mask)["logits"], target).backward()
        optimizer.step()
    model.eval()
    unseen, truth = peaks(64, seed=2)
    with torch.no_grad():
        logits = model(unseen, mask)["logits"]
    assert auroc(logits[:, 1] - logits[:, 0], truth) > 0.95


@pytest.mark.parametrize(
    ("spec_len", "stem_stride", "channels"),
    [(100, 8, (8, 16, 16)), (97, 4, (8,)), (5, 8, (8, 16)), (64, 1, (4, 8, 8, 8))],
)
def test_any_length_fits(spec_len: int, stem_stride: int, channels: tuple[int, ...]) -> None:
    encoder = SpectraCNNEncoder(spec_len, 12, channels=channels, stem_stride=stem_stride)
    vectors, attention = encoder.encode(torch.randn(3, spec_len), return_attention=True)
    assert vectors.shape == (3, 12)
    torch.testing.assert_close(attention["position_pooling"].sum(1), torch.ones(3))


def test_each_position_has_a_way_of_its_own_into_the_vector() -> None:
    """With the readout silenced, a peak far from the ends may move by whole strides unseen."""
    torch.manual_seed(0)
    encoder = SpectraCNNEncoder(512, 16, channels=(8, 8), stem_stride=8).eval()
    silence_whole_scan(encoder)
    scan = torch.zeros(1, 512)
    scan[:, 250] = 1.0
    moved = scan.roll(32, dims=-1)
    assert not torch.allclose(encoder.encode(scan)[0], encoder.encode(moved)[0], atol=1e-3)
    nn.init.zeros_(encoder.position_readout.weight)
    torch.testing.assert_close(encoder.encode(scan)[0], encoder.encode(moved)[0])


def test_a_scan_is_encoded_alike_in_any_company(batch: SmallBatch) -> None:
    encoder = SpectraCNNEncoder(SPEC_LEN, 12, channels=(8, 16), dropout=0.0).train()
    vectors, _ = encoder(batch.spectra, batch.mask)
    alone, _ = encoder.encode(batch.spectra[2, 3][None])
    torch.testing.assert_close(vectors[2, 3], alone[0], atol=1e-5, rtol=1e-4)


def test_only_real_scans_are_computed_when_packed(batch: SmallBatch) -> None:
    encoder = SpectraCNNEncoder(SPEC_LEN, 12, channels=(8,))
    seen: list[int] = []
    encoder.stem.register_forward_hook(lambda _, scans, signal: seen.append(len(scans[0])))
    encoder(batch.spectra, batch.mask)
    encoder.packed = False
    encoder(batch.spectra, batch.mask)
    assert seen == [int(batch.mask.sum()), batch.mask.numel()]


def test_an_equal_block_adds_to_what_came_in() -> None:
    block = ResidualBlock(8, 8, kernel_size=3, stride=1, dropout=0.0)
    for parameter in block.body.parameters():
        nn.init.zeros_(parameter)
    signal = torch.randn(2, 8, 20)
    torch.testing.assert_close(block(signal), functional.gelu(signal))


def test_a_stage_halves_the_positions() -> None:
    block = ResidualBlock(4, 8, kernel_size=5, stride=2, dropout=0.0)
    assert block(torch.randn(2, 4, 21)).shape == (2, 8, 11)


def test_covariates_are_not_looked_at(batch: SmallBatch) -> None:
    model = SpectraCNN(SPEC_LEN, channels=(8,)).eval()
    expected = model(*batch.inputs)["logits"]
    assert torch.equal(model(batch.spectra, batch.mask)["logits"], expected)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": ()}, "channels must name at least one stage"),
        ({"channels": (8, 0)}, r"channels\[1\] must be at least 1, got 0"),
        ({"kernel_size": 4}, "kernel_size must be odd and at least 1, got 4"),
        ({"stem_stride": 0}, "stem_stride must be at least 1, got 0"),
        ({"scan_position": "time"}, "scan_position must be None or 'index', got 'time'"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SpectraCNN(SPEC_LEN, **changes)


def test_spectra_of_another_length_are_refused(batch: SmallBatch) -> None:
    with pytest.raises(ValueError, match=r"spectra have 99 points .* spec_len=100"):
        SpectraCNN(SPEC_LEN)(batch.spectra[..., :99], batch.mask)
