"""Checks of sizes and of what an encoder hands to a fusion, each error one line."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

# A model's, by name.
Outputs = dict[str, Any]


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below one with a ValueError that names the first."""
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_heads(
    width: int, num_heads: int, width_name: str = "d_model", heads_name: str = "num_heads"
) -> None:
    """Refuse a number of heads that does not divide the width; the ValueError names the nearest."""
    if num_heads < 1 or width % num_heads:
        fitting = [n for n in range(1, width + 1) if width % n == 0]
        closest = min(fitting, key=lambda n: abs(n - num_heads))
        refused = f"{heads_name}={num_heads} does not divide {width_name}={width}"
        raise ValueError(f"{refused}; the nearest that does: {closest}")


def check_tab_dim(tab_dim: int, model: str) -> None:
    """Refuse a covariate branch without covariates (ValueError)."""
    if tab_dim < 1:
        raise ValueError(
            f"{model} needs at least one covariate, got tab_dim={tab_dim}; "
            "for spectra without covariates use the model 'spectra_only'"
        )


def check_spec_len(spectra: Tensor, spec_len: int) -> None:
    """Refuse spectra [..., L] of another length than the model was built for (ValueError)."""
    if spectra.shape[-1] != spec_len:
        found = f"spectra have {spectra.shape[-1]} points a scan"
        raise ValueError(f"{found}; the encoder was built with spec_len={spec_len}")


def check_result(
    name: str, result: Mapping[str, Tensor], embedding_dim: int, num_classes: int
) -> None:
    """Refuse (ValueError) an encoder's result that a fusion cannot use."""
    if not isinstance(result, Mapping):
        raise ValueError(
            f"{name} must be a dict with 'embedding' and 'logits', not {type(result).__name__}"
        )
    for key in ("embedding", "logits"):
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
    """Refuse results of batches of different sizes (ValueError)."""
    spec, tab = len(spectra_result["embedding"]), len(tabular_result["embedding"])
    if spec != tab:
        raise ValueError(f"spectra_result has {spec} samples, tabular_result has {tab}")


def _check_shape(name: str, tensor: object, expected: Sequence[int | str]) -> None:
    """Compare a shape; text in place of a number stands for any."""
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
