"""Refusing sizes that do not fit, each in one line."""

from __future__ import annotations

from torch import Tensor


def check_sizes(**sizes: int) -> None:
    """Refuse sizes below one.

    Args:
        sizes: By their names.

    Raises:
        ValueError: Names the first that is too small.
    """
    for name, size in sizes.items():
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")


def check_heads(
    width: int, num_heads: int, width_name: str = "d_model", heads_name: str = "num_heads"
) -> None:
    """Refuse a number of heads that does not divide the width.

    Args:
        width: Features of a token.
        num_heads: Heads that share them.
        width_name: What the message calls the width.
        heads_name: And the number.

    Raises:
        ValueError: When the width cannot be shared evenly.
    """
    if num_heads < 1 or width % num_heads:
        fitting = [n for n in range(1, width + 1) if width % n == 0]
        closest = min(fitting, key=lambda n: abs(n - num_heads))
        raise ValueError(
            f"{heads_name}={num_heads} does not divide {width_name}={width}; "
            f"the nearest that does: {closest}"
        )


def check_tab_dim(tab_dim: int, model: str) -> None:
    """Refuse to build a covariate branch for a cohort without covariates.

    Args:
        tab_dim: Columns of the covariates.
        model: The name to put into the message.

    Raises:
        ValueError: When there is no column.
    """
    if tab_dim < 1:
        raise ValueError(
            f"{model} needs at least one covariate, got tab_dim={tab_dim}; "
            "for spectra without covariates use the model 'spectra_only'"
        )


def check_spec_len(spectra: Tensor, spec_len: int) -> None:
    """Refuse spectra of another length than the model was built for.

    Args:
        spectra: [..., L].
        spec_len: What L has to be.

    Raises:
        ValueError: When it is not.
    """
    if spectra.shape[-1] != spec_len:
        raise ValueError(
            f"spectra have {spectra.shape[-1]} points a scan; "
            f"the encoder was built with spec_len={spec_len}"
        )
