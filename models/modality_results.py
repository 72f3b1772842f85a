"""Checks of what an encoder of one modality hands to a fusion."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

REQUIRED = ("embedding", "logits")


def check_result(
    name: str, result: Mapping[str, Tensor], embedding_dim: int, num_classes: int
) -> None:
    """Refuse a result that the fusion cannot use.

    Args:
        name: What messages call it.
        result: ``embedding`` [B, E] and ``logits`` [B, C]; optional ``tokens`` [B, T, E] and their
            ``mask``, bool [B, T].
        embedding_dim: What E has to be.
        num_classes: What C has to be.

    Raises:
        ValueError: Says in one line what is missing or has another shape.
    """
    if not isinstance(result, Mapping):
        raise ValueError(
            f"{name} must be a dict with 'embedding' and 'logits', not {type(result).__name__}"
        )
    for key in REQUIRED:
        if key not in result:
            found = ", ".join(repr(key) for key in result) or "nothing"
            raise ValueError(f"{name} has no {key!r}; found: {found}")
    _check_shape(f"{name}['embedding']", result["embedding"], ("B", embedding_dim))
    size = len(result["embedding"])
    _check_shape(f"{name}['logits']", result["logits"], (size, num_classes))
    tokens, mask = result.get("tokens"), result.get("mask")
    if tokens is not None:
        _check_shape(f"{name}['tokens']", tokens, (size, "tokens", embedding_dim))
    if mask is not None:
        if tokens is None:
            raise ValueError(f"{name} has a 'mask' but no 'tokens' that it could belong to")
        _check_shape(f"{name}['mask']", mask, tokens.shape[:2])
        if mask.dtype != torch.bool:
            dtype = str(mask.dtype).removeprefix("torch.")
            raise ValueError(f"{name}['mask'] must be bool (True = valid), not {dtype}")


def check_same_batch(
    spectra_result: Mapping[str, Tensor], tabular_result: Mapping[str, Tensor]
) -> None:
    """Refuse results of different batches.

    Args:
        spectra_result: Checked by :func:`check_result`.
        tabular_result: Likewise.

    Raises:
        ValueError: When their samples are not as many.
    """
    spec, tab = len(spectra_result["embedding"]), len(tabular_result["embedding"])
    if spec != tab:
        raise ValueError(f"spectra_result has {spec} samples, tabular_result has {tab}")


def _check_shape(name: str, tensor: object, expected: Sequence[int | str]) -> None:
    """Compare a shape; a name in place of a number stands for any."""
    if not isinstance(tensor, Tensor):
        raise ValueError(f"{name} must be a tensor, not {type(tensor).__name__}")
    shape = list(tensor.shape)
    fits = len(shape) == len(expected) and all(
        isinstance(wanted, str) or size == wanted
        for size, wanted in zip(shape, expected, strict=True)
    )
    if not fits:
        wanted = ", ".join(str(size) for size in expected)
        raise ValueError(f"{name} has shape {shape}; expected [{wanted}]")
