"""A small network of the mean scan's principal components and of the covariates."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from models.attention import linear_head
from models.checks import Outputs, check_sizes
from models.combination import PARTS, ClippedScale
from models.spectra_encoder import mean_scan

if TYPE_CHECKING:
    from models.combination import TrainingSet

FUSIONS = ("joint", "separate")


class PCAMLP(nn.Module):
    """One hidden layer on each modality; their logits are added.

    The spectra's layer sees ``components`` whitened principal components of the standardised mean
    scan, or two fewer than there are training samples. They are fitted to the training set before
    the network is trained. With ``fusion`` ``joint`` the sum is trained, with ``separate`` each
    modality for itself. ``input_noise`` is the standard deviation of noise that training adds to
    the components and covariates. ``tab_dim`` 0 leaves the covariates out.
    """

    rotation: Tensor
    origin: Tensor

    def __init__(
        self,
        spec_len: int,
        tab_dim: int = 0,
        num_classes: int = 2,
        *,
        hidden_dim: int = 64,
        components: int = 40,
        dropout: float = 0.5,
        input_noise: float = 0.3,
        fusion: str = "joint",
    ) -> None:
        super().__init__()
        check_sizes(
            spec_len=spec_len, num_classes=num_classes, hidden_dim=hidden_dim, components=components
        )
        if fusion not in FUSIONS:
            raise ValueError(f"fusion must be {' or '.join(FUSIONS)}, not '{fusion}'")
        if input_noise < 0:
            raise ValueError(f"input_noise must be at least 0, got {input_noise}")
        self.input_noise, self.fusion = input_noise, fusion
        self.scale = ClippedScale(spec_len)
        self.register_buffer("rotation", torch.zeros(components, spec_len))
        self.register_buffer("origin", torch.zeros(components))
        self.spectra = HiddenLayer(components, hidden_dim, num_classes, dropout)
        self.covariates: HiddenLayer | None = None
        if tab_dim:
            self.covariates = HiddenLayer(tab_dim, hidden_dim, num_classes, dropout)

    @torch.no_grad()
    def fit(self, training: TrainingSet) -> None:
        """Fit the components to the mean scans of the training set."""
        # Here, since scikit-learn takes a second to import.
        from models.classical import CLIP, FlooredScaler, whitening

        scaler = FlooredScaler().fit(training.spectra)
        most = min(len(self.rotation), len(training.spectra) - 2)
        rotation, origin = whitening(scaler.transform(training.spectra), most, training.seed)
        self.scale.take(scaler.mean_, scaler.scale_, CLIP)
        self.rotation.zero_()[: len(rotation)] = torch.from_numpy(rotation)
        self.origin.zero_()[: len(origin)] = torch.from_numpy(origin)

    def train(self, mode: bool = True) -> PCAMLP:
        """Change the mode; ValueError if the components are not fitted when training begins."""
        if mode and not self.rotation.any():
            raise ValueError("PCAMLP has no components yet: call fit before it is trained")
        return super().train(mode)

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor | None = None) -> Outputs:
        """Predict a batch.

        Returns ``logits`` [B, C], ``embedding`` and ``spec_embedding`` [B, E], and with covariates
        ``tab_embedding`` [B, E]; in separate training ``parts``, too.
        """
        # In half precision the sum over thousands of points is too coarse.
        with torch.autocast(spectra.device.type, enabled=False):
            points = self.scale(mean_scan(spectra.float(), mask))
            components = points @ self.rotation.T - self.origin
        logits, spec = self.spectra(self._noisy(components))
        if self.covariates is None:
            return {"logits": logits, "embedding": spec, "spec_embedding": spec}
        assert tabular is not None
        of_covariates, tab = self.covariates(self._noisy(tabular))
        outputs: Outputs = {
            "logits": logits + of_covariates,
            "embedding": torch.cat([spec, tab], dim=-1),
            "spec_embedding": spec,
            "tab_embedding": tab,
        }
        if self.training and self.fusion == "separate":
            outputs[PARTS] = [
                {"logits": logits, "embedding": spec, "spec_embedding": spec},
                {"logits": of_covariates, "embedding": tab, "tab_embedding": tab},
            ]
        return outputs

    def _noisy(self, values: Tensor) -> Tensor:
        if not self.training or not self.input_noise:
            return values
        return values + self.input_noise * torch.randn_like(values)


class HiddenLayer(nn.Module):
    """A hidden layer and a head that starts at zero."""

    def __init__(self, features: int, hidden_dim: int, num_classes: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Sequential(nn.Linear(features, hidden_dim), nn.GELU())
        self.head = linear_head(hidden_dim, num_classes, dropout)
        for parameter in self.head[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """Logits [B, C] and the vector [B, hidden_dim] of inputs [B, features]."""
        vector = self.hidden(inputs)
        return self.head(vector), vector
