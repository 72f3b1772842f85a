"""Encoding only the scans that are real, with the results back where their scans stood."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# From scans [N, L] that all are real to their vectors [N, E] and named attention weights [N, ...].
ScanEncoder = Callable[[Tensor], tuple[Tensor, dict[str, Tensor]]]


def encode_real_scans(
    encode: ScanEncoder,
    spectra: Tensor,
    mask: Tensor,
    *,
    packed: bool = True,
    scan_rows: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Encode the scans of a batch.

    Args:
        encode: Takes scans [N, L], and treats each by itself.
        spectra: [B, S, L]; padded scans may hold anything, NaN too.
        mask: Bool [B, S]; True = a real scan.
        packed: Hand on the real scans only; otherwise all, the padded ones as zeros.
        scan_rows: The mask as an index, long [N] into the B * S scans. Without it a packed batch
            on a GPU is waited for, since its scans have to be counted. Rows of B * S fill it up
            to a length that many batches share, which compiled code likes: they are computed, and
            nothing comes of them.

    Returns:
        Vectors [B, S, E] and weights [B, S, ...], both zero where padded.

    Example:
        >>> mask = torch.tensor([[True, False], [True, True]])
        >>> spectra = torch.zeros(2, 2, 1)
        >>> vectors, _ = encode_real_scans(lambda scans: (scans + 1, {}), spectra, mask)
        >>> vectors.squeeze(-1).tolist()
        [[1.0, 0.0], [1.0, 1.0]]
    """
    scans, real = spectra.flatten(0, 1), mask.flatten()
    rows = None
    if packed:
        # One index for the gather and for the scatters: finding it is the only synchronisation.
        rows = real.nonzero().squeeze(1) if scan_rows is None else scan_rows
        if len(rows) == len(scans):
            rows = None  # nothing is padded: nothing to gather
        else:
            # Rows that only fill up read the first real scan, which holds no NaN.
            scans = scans.index_select(0, torch.where(rows < len(scans), rows, rows[:1]))
    else:
        scans = scans.masked_fill(~real[:, None], 0.0)
    vectors, attention = encode(scans)
    return _put_back(vectors, mask, rows), {
        name: _put_back(weights, mask, rows) for name, weights in attention.items()
    }


def _put_back(results: Tensor, mask: Tensor, rows: Tensor | None) -> Tensor:
    """[N, ...] -> [B, S, ...]; ``rows`` None means that there is a result for every scan."""
    if rows is None:
        real = mask.view(*mask.shape, *[1] * (results.dim() - 1))
        return results.unflatten(0, mask.shape) * real
    # One place more, for the results of rows that only fill up.
    whole = results.new_zeros(mask.numel() + 1, *results.shape[1:])
    return whole.index_copy(0, rows, results)[:-1].unflatten(0, mask.shape)
