"""The simplest model of spectra: the mean scan and one linear layer."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from models.size_checks import check_sizes, check_spec_len


class MeanLinear(nn.Module):
    """One linear layer on the mean of a sample's real scans; each weight belongs to a point.

    Args:
        spec_len: Points of a scan, L.
        num_classes: Width of the logits, C: classes, labels, or values to regress.

    Raises:
        ValueError: When a size is below one.

    Example:
        >>> import torch
        >>> model = MeanLinear(spec_len=64)
        >>> model(torch.randn(2, 4, 64), torch.ones(2, 4, dtype=torch.bool))["logits"].shape
        torch.Size([2, 2])
    """

    def __init__(self, spec_len: int, num_classes: int = 2) -> None:
        super().__init__()
        check_sizes(spec_len=spec_len, num_classes=num_classes)
        self.spec_len = spec_len
        self.head = nn.Linear(spec_len, num_classes)

    def forward(
        self, spectra: Tensor, mask: Tensor, tabular: Tensor | None = None
    ) -> dict[str, Any]:
        """Predict a batch by its mean scans.

        Args:
            spectra: [B, S, L]; padded scans may hold anything, NaN too.
            mask: Bool [B, S]; True = a real scan, at least one a sample.
            tabular: Not looked at.

        Returns:
            ``logits`` [B, C], and the mean scan as ``embedding`` and ``spec_embedding`` [B, L].

        Raises:
            ValueError: When the spectra have another length than the model was built for.
        """
        check_spec_len(spectra, self.spec_len)
        real = spectra.masked_fill(~mask[..., None], 0.0)
        mean = real.sum(dim=1) / mask.sum(dim=1, keepdim=True)
        return {"logits": self.head(mean), "embedding": mean, "spec_embedding": mean}
