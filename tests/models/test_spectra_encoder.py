"""The spectra branch: patches, packing, and knowing where a peak stands."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models.spectra_encoder import (
    MultiScalePatches,
    ScanEncoder,
    ScanPooling,
    SpectraTFTEncoder,
    encode_real_scans,
)
from tests.models.small_batch import SMALL, SPEC_LEN, SmallBatch

PEAK_PLACES = (20, 200)
PEAK_AXIS = 256
TRAINING_STEPS = 60


def peaks(samples: int, seed: int) -> tuple[Tensor, Tensor]:
    """Scans [N, 1, L] whose only difference between the classes is where a peak stands."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.arange(samples) % 2
    scans = torch.randn(samples, 1, PEAK_AXIS, generator=generator)
    shape = 3 * torch.exp(-((torch.arange(-6, 7) / 3.0) ** 2))
    for place in PEAK_PLACES:
        rows = target == PEAK_PLACES.index(place)
        scans[rows, :, place - 6 : place + 7] += shape
    return scans, target


def auroc(score: Tensor, target: Tensor) -> float:
    """The share of pairs that are in order (Mann-Whitney)."""
    return (score[target == 1][:, None] > score[target == 0][None]).float().mean().item()


@pytest.mark.slow
def test_where_a_peak_stands_is_learnt() -> None:
    torch.manual_seed(0)
    encoder = SpectraTFTEncoder(PEAK_AXIS, 16, patch_size=16, d_model=16, num_layers=1, dropout=0.1)
    head = nn.Linear(16, 2)
    optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-3)
    scans, target = peaks(64, seed=1)
    mask = torch.ones(64, 1, dtype=torch.bool)
    for _ in range(TRAINING_STEPS):
        optimizer.zero_grad()
        functional.cross_entropy(head(encoder(scans, mask)[0][:, 0]), target).backward()
        optimizer.step()
    encoder.eval()
    unseen, truth = peaks(64, seed=2)
    with torch.no_grad():
        logits = head(encoder(unseen, mask)[0][:, 0])
    assert auroc(logits[:, 1] - logits[:, 0], truth) > 0.95


def silence_whole_scan(encoder: ScanEncoder) -> None:
    """Leave the tokens alone in the vector."""
    with torch.no_grad():
        encoder.vector.weight[:, -encoder.whole_scan.features :] = 0


def test_each_position_has_a_way_of_its_own_into_the_vector() -> None:
    """With pooling, learned positions and transformer silenced, a moved peak still shows."""
    torch.manual_seed(0)
    encoder = SpectraTFTEncoder(PEAK_AXIS, 16, patch_size=16, d_model=16, num_layers=0).eval()
    nn.init.zeros_(encoder.positions)
    silence_whole_scan(encoder)
    scan = torch.zeros(1, 1, PEAK_AXIS)
    scan[..., 100] = 1.0
    mask = torch.ones(1, 1, dtype=torch.bool)
    # By two whole patches, away from the ends: the tokens are the same, in another order.
    moved = scan.roll(32, dims=-1)
    assert not torch.allclose(encoder(scan, mask)[0], encoder(moved, mask)[0], atol=1e-4)
    nn.init.zeros_(encoder.position_readout.weight)
    torch.testing.assert_close(encoder(scan, mask)[0], encoder(moved, mask)[0])


@pytest.mark.parametrize("packed", [True, False])
def test_vectors_stand_where_their_scans_stood(batch: SmallBatch, packed: bool) -> None:
    encoder = SpectraTFTEncoder(SPEC_LEN, 12, packed=packed, **SMALL).eval()
    vectors, attention = encoder(batch.spectra, batch.mask)
    assert vectors.shape == (*batch.mask.shape, 12)
    assert attention == {}
    assert vectors[~batch.mask].eq(0).all()
    alone, _ = encoder.encode(batch.spectra[2, 3][None])
    torch.testing.assert_close(vectors[2, 3], alone[0])


def test_only_valid_scans_are_computed_when_packed(batch: SmallBatch) -> None:
    encoder = SpectraTFTEncoder(SPEC_LEN, 12, **SMALL)
    seen: list[int] = []
    encoder.patches.register_forward_hook(lambda _, scans, tokens: seen.append(len(scans[0])))
    encoder(batch.spectra, batch.mask)
    encoder.packed = False
    encoder(batch.spectra, batch.mask)
    assert seen == [int(batch.mask.sum()), batch.mask.numel()]


@pytest.mark.parametrize("spec_len", [96, 97, 100, 5])
def test_any_length_is_cut_to_whole_patches(spec_len: int) -> None:
    patches = MultiScalePatches(spec_len, patch_size=16, width=8)
    tokens = patches(torch.randn(3, spec_len))
    assert tokens.shape == (3, -(-spec_len // 16), 8)


def test_the_patches_are_a_strided_convolution_at_each_scale() -> None:
    patches = MultiScalePatches(100, patch_size=16, width=8, scales=(1, 2, 4))
    scans = torch.randn(3, 100)
    padded = functional.pad(scans, (0, 12))[:, None]
    views = []
    for kernel, projection in zip(patches.kernels, patches.projections, strict=True):
        assert isinstance(projection, nn.Linear)
        overhang = kernel - 16
        around = functional.pad(padded, (overhang // 2, overhang - overhang // 2))
        convolved = functional.conv1d(
            around, projection.weight[:, None], projection.bias, stride=16
        )
        views.append(convolved.transpose(1, 2))
    torch.testing.assert_close(patches(scans), patches.fuse(torch.cat(views, dim=-1)))


def test_scan_pooling_is_a_weighted_mean_of_the_real_scans() -> None:
    torch.manual_seed(0)
    vectors = torch.randn(2, 3, 8)
    mask = torch.tensor([[True, True, False], [True, False, False]])
    pooled, weights, _ = ScanPooling(8)(vectors, mask)
    torch.testing.assert_close(pooled, (weights[..., None] * vectors).sum(1))
    torch.testing.assert_close(weights.sum(1), torch.ones(2))
    torch.testing.assert_close(pooled[1], vectors[1, 0])


def test_scan_places_need_no_longest_run() -> None:
    pooling = ScanPooling(7, scan_position="index")  # odd width too
    _, _, placed = pooling(torch.zeros(1, 500, 7), torch.ones(1, 500, dtype=torch.bool))
    assert torch.cdist(placed, placed)[0].fill_diagonal_(1).min() > 0


def test_under_autocast_tokens_stay_in_its_precision() -> None:
    encoder = SpectraTFTEncoder(48, 8, patch_size=16, d_model=8, num_heads=2)
    seen: list[torch.dtype] = []
    for block in encoder.blocks:
        block.register_forward_hook(lambda module, inputs, output: seen.append(output[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        encoder(torch.randn(2, 3, 48), torch.ones(2, 3, dtype=torch.bool))
    assert seen == [torch.bfloat16] * len(encoder.blocks)


class Doubling:
    """Encodes a scan as twice itself, and remembers how many scans it was given."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def __call__(self, scans: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        self.seen.append(len(scans))
        return 2 * scans, {"weights": scans[:, None, :3]}


@pytest.mark.parametrize("packed", [True, False])
def test_results_stand_where_their_scans_stood(batch: SmallBatch, packed: bool) -> None:
    broken = batch.spectra.masked_fill(~batch.mask[..., None], float("nan"))
    vectors, attention = encode_real_scans(Doubling(), broken, batch.mask, packed=packed)
    assert torch.equal(vectors, 2 * batch.spectra)  # the batch's padding is zero
    assert torch.equal(attention["weights"], batch.spectra[:, :, None, :3])


@pytest.mark.parametrize(("packed", "encoded"), [(True, "real"), (False, "all")])
def test_packing_encodes_no_padding(batch: SmallBatch, packed: bool, encoded: str) -> None:
    encode = Doubling()
    encode_real_scans(encode, batch.spectra, batch.mask, packed=packed)
    assert encode.seen == [int(batch.mask.sum()) if encoded == "real" else batch.mask.numel()]


def test_known_rows_are_used_and_not_looked_for(batch: SmallBatch) -> None:
    encode = Doubling()
    rows = torch.tensor([0, 5])
    vectors, _ = encode_real_scans(encode, batch.spectra, batch.mask, scan_rows=rows)
    assert encode.seen == [2]
    assert vectors.flatten(0, 1).abs().amax(1).nonzero().flatten().tolist() == [0]  # 5 is padding
    vectors, _ = encode_real_scans(
        encode, batch.spectra, batch.mask, scan_rows=batch.mask.flatten().nonzero().squeeze(1)
    )
    assert torch.equal(vectors, 2 * batch.spectra)


def test_rows_that_only_fill_up_change_nothing(batch: SmallBatch) -> None:
    weight = torch.tensor(2.0, requires_grad=True)
    rows = batch.mask.flatten().nonzero().squeeze(1)
    filled = torch.cat([rows, torch.full((3,), batch.mask.numel())])
    broken = batch.spectra.masked_fill(~batch.mask[..., None], float("nan"))
    vectors, _ = encode_real_scans(
        lambda scans: (weight * scans, {}), broken, batch.mask, scan_rows=filled
    )
    assert torch.equal(vectors, 2 * batch.spectra)
    vectors.sum().backward()
    torch.testing.assert_close(weight.grad, batch.spectra.sum())


def test_a_batch_without_padding_is_not_copied(batch: SmallBatch) -> None:
    spectra, mask = torch.randn(2, 3, 10), torch.ones(2, 3, dtype=torch.bool)
    given: list[Tensor] = []

    def encode(scans: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        given.append(scans)
        return scans, {}

    assert torch.equal(encode_real_scans(encode, spectra, mask)[0], spectra)
    assert given[0].data_ptr() == spectra.data_ptr()


def test_only_real_scans_are_encoded():
    mask = torch.tensor([[True, False], [True, True]])
    vectors, _ = encode_real_scans(lambda scans: (scans + 1, {}), torch.zeros(2, 2, 1), mask)
    assert vectors.squeeze(-1).tolist() == [[1.0, 0.0], [1.0, 1.0]]
