"""A head of several layers, from one vector a sample to logits."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from models.size_checks import check_sizes

HIDDEN_DIMS = (512, 256, 128)


class HiddenLayer(nn.Module):
    """Linear layer, LayerNorm, GELU, dropout; with a linear path beside them.

    Args:
        features_in: Features of what comes in.
        features: Features of the result.
        dropout: On what is added to the linear path.
        use_residual: Have that path; the identity where the widths agree.
        use_layer_norm: Norm before the GELU.
    """

    def __init__(
        self,
        features_in: int,
        features: int,
        dropout: float,
        use_residual: bool,
        use_layer_norm: bool,
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(features_in, features),
            nn.LayerNorm(features) if use_layer_norm else nn.Identity(),
            nn.GELU(),
            nn.Dropout(dropout),
        )
        self.beside: nn.Module | None = None
        if use_residual:
            same = features_in == features
            self.beside = nn.Identity() if same else nn.Linear(features_in, features, bias=False)

    def forward(self, vectors: Tensor) -> Tensor:
        """[B, features_in] -> [B, features]."""
        result: Tensor = self.body(vectors)
        return result if self.beside is None else result + self.beside(vectors)


class EnhancedClassifier(nn.Module):
    """Hidden layers and a linear head.

    Args:
        input_dim: Features of a sample's vector, E.
        num_classes: Width of the logits, C: classes, labels, or values to regress.
        hidden_dims: Features of each hidden layer; none makes it a linear head.
        dropout: In each hidden layer.
        use_residual: A linear path beside each hidden layer.
        use_layer_norm: LayerNorm in each hidden layer.

    Raises:
        ValueError: When a size is below one.

    Example:
        >>> import torch
        >>> EnhancedClassifier(16, num_classes=3, hidden_dims=[8, 8])(torch.randn(2, 16)).shape
        torch.Size([2, 3])
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int = 2,
        hidden_dims: Sequence[int] = HIDDEN_DIMS,
        dropout: float = 0.1,
        *,
        use_residual: bool = True,
        use_layer_norm: bool = True,
    ) -> None:
        super().__init__()
        widths = [input_dim, *hidden_dims]
        check_sizes(
            input_dim=input_dim,
            num_classes=num_classes,
            **{f"hidden_dims[{layer}]": width for layer, width in enumerate(hidden_dims)},
        )
        self.layers = nn.ModuleList(
            HiddenLayer(before, width, dropout, use_residual, use_layer_norm)
            for before, width in zip(widths, hidden_dims, strict=False)
        )
        self.head = nn.Linear(widths[-1], num_classes)

    def forward(self, vectors: Tensor) -> Tensor:
        """Logits [B, C] of the vectors [B, E]."""
        for layer in self.layers:
            vectors = layer(vectors)
        logits: Tensor = self.head(vectors)
        return logits
