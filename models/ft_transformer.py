"""Covariates by a transformer whose tokens they are."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from models.attention import TransformerBlock
from models.size_checks import check_heads, check_sizes, check_tab_dim
from models.tabular_encoder import CovariateTokens


class FTTransformer(nn.Module):
    """Feature tokenizer and transformer (Gorishniy et al. 2021); spectra are not looked at.

    Each covariate is a token, a summary token stands before them, and the head reads the summary.

    Args:
        tab_dim: Covariates, D; at least one.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        d_model: Features of a token, W, and of the sample's vector.
        dropout: On what the blocks add, and on the head.
        num_layers: Transformer blocks; at least one.
        num_heads: Heads, H; must divide ``d_model``.
        return_attention: Return the weights of every head, which costs the fused kernel; may be
            switched on an existing model.
        activation_checkpointing: In training, keep what goes into each block for the backward
            pass, and compute the rest a second time: memory for time.

    Raises:
        ValueError: When there is no covariate, or a size does not fit.

    Example:
        >>> model = FTTransformer(tab_dim=3, d_model=16)
        >>> model(None, None, torch.randn(2, 3))["logits"].shape
        torch.Size([2, 2])
    """

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
        self.blocks = nn.ModuleList(
            TransformerBlock(
                d_model,
                num_heads,
                dropout,
                activation_checkpointing=activation_checkpointing,
            )
            for _ in range(num_layers)
        )
        self.norm = nn.LayerNorm(d_model)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(dropout), nn.Linear(d_model, num_classes))

    def forward(
        self, spectra: Tensor | None, mask: Tensor | None, tabular: Tensor
    ) -> dict[str, Any]:
        """Predict a batch by its covariates.

        Args:
            spectra: Not looked at.
            mask: Not looked at.
            tabular: [B, D].

        Returns:
            ``logits`` [B, C], ``embedding`` and ``tab_embedding`` [B, W], and
            ``attention_weights``: with ``return_attention`` ``covariate_attention_<layer>``
            [B, H, D + 1, D + 1], where entry 0 is the summary and d + 1 is covariate d.
        """
        covariates = self.covariate_tokens(tabular)
        summary = self.summary.to(covariates.dtype).expand(len(tabular), 1, -1)
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
