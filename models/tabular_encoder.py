"""Covariates: one vector a sample, one token a covariate, and a transformer of these tokens."""

from functools import partial

import torch
from torch import Tensor, nn

from models.attention import TransformerBlock
from models.checks import Outputs, check_heads, check_sizes, check_tab_dim


class TabularStaticEncoder(nn.Module):
    """Feature-selection gate and MLP, with a linear path beside it.

    The gate weighs each covariate of each sample before anything is mixed (the variable selection
    of the Temporal Fusion Transformer, Lim et al. 2021, section 4.2, with a sigmoid for the
    softmax: covariates need not compete).
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
    """One token a covariate: a learned direction and place (Gorishniy et al. 2021, section 3.3)."""

    def __init__(self, tab_dim: int, width: int) -> None:
        super().__init__()
        self.direction = nn.Parameter(torch.randn(tab_dim, width) / width**0.5)
        self.place = nn.Parameter(torch.randn(tab_dim, width) / width**0.5)

    def forward(self, tabular: Tensor) -> Tensor:
        """Make tokens [B, D, W] of the covariates [B, D]."""
        return tabular[..., None] * self.direction + self.place


class FTTransformer(nn.Module):
    """A token a covariate and a summary token, which the head reads (Gorishniy et al. 2021)."""

    def __init__(
        self,
        tab_dim: int,
        num_classes: int = 2,
        d_model: int = 64,
        dropout: float = 0.1,
        *,
        num_layers: int = 2,
        num_heads: int = 4,
        return_attention: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        check_tab_dim(tab_dim, "FTTransformer")
        check_sizes(num_classes=num_classes, d_model=d_model, num_layers=num_layers)
        check_heads(d_model, num_heads)
        self.return_attention = return_attention
        self.summary = nn.Parameter(torch.randn(d_model) / d_model**0.5)
        self.covariate_tokens = CovariateTokens(tab_dim, d_model)
        block = partial(TransformerBlock, activation_checkpointing=activation_checkpointing)
        self.blocks = nn.ModuleList(block(d_model, num_heads, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_model, num_classes))

    def forward(self, spectra: Tensor | None, mask: Tensor | None, tabular: Tensor) -> Outputs:
        """Predict a batch by its covariates [B, D]; spectra and mask are ignored.

        Returns ``logits`` [B, C], ``embedding`` and ``tab_embedding`` [B, W], and
        ``attention_weights``: with ``return_attention`` ``covariate_attention_<layer>`` [B, H, D +
        1, D + 1], where entry 0 is the summary and d + 1 is covariate d.
        """
        covariates = self.covariate_tokens(tabular)
        summary = self.summary.to(covariates.dtype).expand(tabular.shape[0], 1, -1)
        tokens = torch.cat([summary, covariates], dim=1)
        attention = {}
        for layer, block in enumerate(self.blocks):
            tokens, weights = block(tokens, need_weights=self.return_attention)
            if weights is not None:
                attention[f"covariate_attention_{layer}"] = weights
        embedding = self.norm(tokens[:, 0])
        return {
            "logits": self.head(embedding),
            "embedding": embedding,
            "tab_embedding": embedding,
            "attention_weights": attention,
        }
