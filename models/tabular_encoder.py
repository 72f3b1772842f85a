"""From covariates to one vector a sample, and to one token a covariate."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from models.size_checks import check_tab_dim


class TabularStaticEncoder(nn.Module):
    """Feature-selection gate and MLP, with a linear path beside it.

    The gate weighs each covariate of each sample before anything is mixed (the variable selection
    of the Temporal Fusion Transformer, Lim et al. 2021, section 4.2, with a sigmoid for the
    softmax: covariates need not compete).

    Args:
        tab_dim: Covariates, D.
        tab_emb: Features of the result, E.
        hidden_dim: Features of the hidden layer; ``tab_emb`` when None.
        dropout: On the hidden layer and on the result.

    Raises:
        ValueError: When ``tab_dim`` is below one.

    Example:
        >>> vector, gate = TabularStaticEncoder(tab_dim=5, tab_emb=8)(torch.randn(3, 5))
        >>> vector.shape, gate.shape
        (torch.Size([3, 8]), torch.Size([3, 5]))
    """

    def __init__(
        self,
        tab_dim: int,
        tab_emb: int = 128,
        *,
        hidden_dim: int | None = None,
        dropout: float = 0.1,
    ) -> None:
        super().__init__()
        check_tab_dim(tab_dim, "TabularStaticEncoder")
        hidden = tab_emb if hidden_dim is None else hidden_dim
        self.gate = nn.Linear(tab_dim, tab_dim)
        self.mlp = nn.Sequential(
            nn.Linear(tab_dim, hidden),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(hidden, tab_emb),
            nn.Dropout(dropout),
        )
        self.linear = nn.Linear(tab_dim, tab_emb)
        self.norm = nn.LayerNorm(tab_emb)

    def forward(self, tabular: Tensor) -> tuple[Tensor, Tensor]:
        """Encode the covariates [B, D]; returns the vector [B, E] and the gate [B, D] in 0..1."""
        gate = self.gate(tabular).sigmoid()
        selected = tabular * gate
        return self.norm(self.mlp(selected) + self.linear(selected)), gate


class CovariateTokens(nn.Module):
    """One token a covariate, so that attention can say which covariate it looked at.

    A covariate's token is its value times a learned direction plus a learned place (the feature
    tokenizer of Gorishniy et al. 2021, section 3.3).

    Args:
        tab_dim: Covariates, D.
        width: Features of a token, W.
    """

    def __init__(self, tab_dim: int, width: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(tab_dim, width) / width**0.5)
        self.place = nn.Parameter(torch.randn(tab_dim, width) / width**0.5)

    def forward(self, tabular: Tensor) -> Tensor:
        """Make tokens [B, D, W] of the covariates [B, D]."""
        return tabular[..., None] * self.direction + self.place
