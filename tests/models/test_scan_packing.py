"""Only the real scans are encoded, and their results stand where they stood."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from models.scan_packing import encode_real_scans
from tests.models.small_batch import SmallBatch


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
