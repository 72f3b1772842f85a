"""Terms that hold a model back, beside a loss. Decay of the weights is the optimizer's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from engine.losses.inputs import find_output


class NegativeEntropy(nn.Module):
    """Minus the entropy of the predicted probabilities, in nats: a penalty on confidence.

    Pereyra et al. 2017, "Regularizing Neural Networks by Penalizing Confident Output
    Distributions". Of classes (targets [B]) by softmax, of labels (targets [B, T]) by sigmoid, the
    mean over the labels. It is at most 0.

    Example:
        >>> import torch
        >>> terms = NegativeEntropy()({"logits": torch.zeros(1, 2)}, torch.tensor([0]))
        >>> round(terms["total_loss"].item(), 4)  # -log 2
        -0.6931
    """

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The term as ``total_loss``, a scalar."""
        logits = find_output(outputs, "logits").float()
        if targets.is_floating_point():
            # -p log p - (1 - p) log(1 - p) is the cross-entropy of p with itself.
            entropy = functional.binary_cross_entropy_with_logits(logits, logits.sigmoid())
        else:
            logs = logits.log_softmax(dim=1)
            entropy = -(logs.exp() * logs).sum(dim=1).mean()
        return {"total_loss": -entropy}


class OutputNorm(nn.Module):
    """L2: the mean square of one of the model's outputs, its ``embedding`` unless told otherwise.

    Example:
        >>> import torch
        >>> OutputNorm()({"embedding": torch.tensor([[3.0, 1.0]])}, torch.tensor([0]))
        {'total_loss': tensor(5.)}
    """

    reads = "embedding"

    def forward(
        self, outputs: Mapping[str, Any], targets: Tensor, aux: Any = None
    ) -> dict[str, Tensor]:
        """The term as ``total_loss``, a scalar."""
        return {"total_loss": find_output(outputs, self.reads).float().square().mean()}
