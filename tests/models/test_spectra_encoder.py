"""The spectra branch: patches, packing, and knowing where a peak stands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from models import TrainingSet, fit_before_training, is_fitted_before
from models.baseline_models import SpectraOnly
from models.spectra_encoder import (
    PAIRS,
    MultiScalePatches,
    ScanEncoder,
    ScanPooling,
    SpectraTFTEncoder,
    WhitenedComponents,
    WholeScan,
    encode_real_scans,
)
from tests.models.small_batch import SMALL, SPEC_LEN, SmallBatch, small_model

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


@pytest.mark.slow
def test_an_exported_graph_is_dense_and_takes_any_mask(batch: SmallBatch) -> None:
    model = small_model("spectra_only").eval()
    dims = {0: torch.export.Dim("batch"), 1: torch.export.Dim("scans")}
    graph = torch.export.export(model, batch.inputs[:2], dynamic_shapes=(dims, dims)).module()
    spectra, mask = torch.randn(9, 5, SPEC_LEN), torch.rand(9, 5) < 0.6
    mask[:, 0] = True
    spectra[~mask] = torch.nan
    found = graph(spectra, mask)["logits"]
    torch.testing.assert_close(found, model(spectra, mask)["logits"], rtol=1e-5, atol=1e-5)


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


def training_set(spectra: Tensor, targets: Tensor | None = None) -> TrainingSet:
    """Mean scans [N, L] with labels, each sample a group."""
    labels = torch.arange(len(spectra)) % 2 if targets is None else targets
    nothing = np.empty((len(spectra), 0), dtype=np.float32)
    places = np.arange(len(spectra))
    return TrainingSet(spectra.numpy(), nothing, labels.numpy(), places, "binary", 0)


def test_components_of_the_training_scans_are_white() -> None:
    torch.manual_seed(0)
    # Points that go together, on very different scales and away from zero.
    spectra = torch.randn(200, 6) * torch.tensor([50.0, 10, 5, 1, 0.5, 0.1])
    spectra = spectra @ torch.randn(6, 40) + 7
    part = WhitenedComponents(40, 5).eval()
    part.fit(training_set(spectra))
    found = part(spectra)
    torch.testing.assert_close(found.mean(0), torch.zeros(5), atol=1e-4, rtol=0)
    torch.testing.assert_close(found.T.cov(), torch.eye(5), atol=1e-3, rtol=0)


def test_few_samples_have_few_components() -> None:
    part = WhitenedComponents(40, 10).eval()
    part.fit(training_set(torch.randn(24, 40)))
    found = part(torch.randn(3, 40))
    assert found[:, :6].ne(0).all()
    assert found[:, 6:].eq(0).all()


def test_components_that_are_not_fitted_are_directions_all_the_same() -> None:
    torch.manual_seed(0)
    part = WhitenedComponents(300, 10)
    found = part(torch.randn(1000, 300))
    torch.testing.assert_close(found.std(0), torch.ones(10), atol=0.25, rtol=0)


@pytest.mark.parametrize(("samples", "noise"), [(100, 1.0), (1600, 0.5)])
def test_training_adds_noise_that_more_samples_need_less(samples: int, noise: float) -> None:
    torch.manual_seed(0)
    part = WhitenedComponents(20, 4)
    scans = torch.randn(5, 20).expand(2000, 5, 20).flatten(0, 1)
    assert torch.equal(part(scans), part(scans))  # none before it is fitted
    part.fit(training_set(torch.randn(samples, 20)))
    clean = part.eval()(scans)
    assert torch.equal(clean, part(scans))
    added = part.train()(scans) - clean
    torch.testing.assert_close(added.std(), torch.tensor(noise), atol=0.02, rtol=0)


def test_components_are_summed_in_full_precision() -> None:
    part = WhitenedComponents(500, 4)
    scans = torch.randn(3, 500)
    with torch.autocast("cpu", torch.bfloat16):
        found = part(scans)
    assert torch.equal(found, part(scans))


@pytest.mark.parametrize("spec_len", [50, 5000])
def test_a_step_moves_the_layer_of_all_points_alike_at_any_length(spec_len: int) -> None:
    torch.manual_seed(0)
    part = WholeScan(spec_len, width=32, components=4, dropout=0.0)
    scans = torch.randn(16, spec_len)

    def values() -> Tensor:
        return part.slow * part.points(scans)

    before = values()
    assert 0.4 < before.std() < 0.8  # as of a plain layer: 1 / sqrt(3)
    optimizer = torch.optim.Adam(part.points.parameters(), lr=1e-3)
    values().square().sum().backward()
    optimizer.step()
    # Steps of a plain layer of 5,000 points move its values by more than 1.
    assert (values() - before).abs().mean() < 0.1


def test_features_of_the_components_are_multiplied_in_pairs() -> None:
    part = WholeScan(50, width=8, components=4, dropout=0.0)
    found = part(torch.randn(3, 50))
    hidden, products, points = found.split([8, PAIRS, 4], dim=-1)
    left, right = part.pairs(hidden).chunk(2, dim=-1)
    torch.testing.assert_close(products, left * right)
    assert points.shape == (3, 4)
    assert part.features == found.shape[1]


@pytest.mark.parametrize("name", ["tft", "attention", "late_fusion", "spectra_only", "spectra_cnn"])
def test_every_encoder_of_scans_is_fitted_to_the_training_set(name: str) -> None:
    model = small_model(name)
    assert is_fitted_before(model)
    fit_before_training(model, training_set(torch.randn(80, SPEC_LEN)))
    parts = [part for part in model.modules() if isinstance(part, WhitenedComponents)]
    assert [part.noise.item() for part in parts] == [1.0]
    assert parts[0].rotation[20:].eq(0).all()


@pytest.mark.slow
def test_pairs_of_peaks_are_learnt_that_no_linear_model_sees() -> None:
    """Either peak alone is distributed alike in both classes; their product knows the label."""
    torch.manual_seed(0)

    def draw(samples: int) -> tuple[Tensor, Tensor]:
        heights = torch.randn(samples, 8)
        scans = 0.3 * torch.randn(samples, 128)
        for peak in range(8):
            scans[:, 16 * peak + 4 : 16 * peak + 9] += heights[:, peak, None]
        return scans[:, None], (heights[:, 1] * heights[:, 5] > 0).long()

    scans, target = draw(800)
    model = SpectraOnly(128, spec_emb=32, patch_size=16, d_model=16, num_layers=1)
    fit_before_training(model, training_set(scans[:, 0], target))
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for _ in range(25):
        for rows in torch.randperm(800).split(64):
            optimizer.zero_grad()
            mask = torch.ones(len(rows), 1, dtype=torch.bool)
            functional.cross_entropy(model(scans[rows], mask)["logits"], target[rows]).backward()
            optimizer.step()
    model.eval()
    unseen, truth = draw(500)
    with torch.no_grad():
        logits = model(unseen, torch.ones(500, 1, dtype=torch.bool))["logits"]
    found = auroc(logits[:, 1] - logits[:, 0], truth)
    assert found > 0.85, found
