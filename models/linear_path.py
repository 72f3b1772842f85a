"""A linear model within a network, which then learns what the linear model leaves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checks import Outputs, check_sizes
from models.combination import (
    LEFT_OUT,
    PARTS,
    ClippedScale,
    Weighted,
    call_network,
    leave_out,
    taking_rows,
)
from models.spectra_encoder import mean_scan

if TYPE_CHECKING:
    from models.combination import TrainingSet

# Modules whose last linear layer gives logits, by the last part of their name, and the outputs.
HEADS = ("head", "aux_head_spec", "aux_head_tab")
LOGITS = ("logits", "aux_logits_spec", "aux_logits_tab")
# With fewer samples the spectra's model sees whitened components of them, otherwise all points.
FEW_SAMPLES = 200


class LinearPath(Weighted):
    """A network whose logits are added to those of a regularised linear model.

    The linear model is a logistic (of values a ridge) regression on the mean scan and one on the
    covariates; out-of-fold predictions weigh the two. In training the batch's ``offset`` stands in
    its place: the logits of linear models that were not fitted to the sample, so that the network
    learns what the linear model really misses. The network's last layers start at zero.
    Samples that it was not trained on may weigh the network from 0 to 1, so that one that has
    learned nothing does no harm.

    ``spec_len`` and ``tab_dim`` are 0 without spectra and without covariates.
    """

    spectra_weight: Tensor
    covariates_weight: Tensor
    bias: Tensor
    member_names = ("linear model", "network")

    def __init__(self, network: nn.Module, spec_len: int, tab_dim: int, num_classes: int) -> None:
        super().__init__()
        check_sizes(num_classes=num_classes)
        zero_last_layers(network)
        self.network = network
        (self._takes_rows,) = taking_rows([network])
        self.scale = ClippedScale(spec_len)
        self.register_buffer("spectra_weight", torch.zeros(num_classes, spec_len))
        self.register_buffer("covariates_weight", torch.zeros(num_classes, tab_dim))
        self.register_buffer("bias", torch.zeros(num_classes))
        self.register_buffer("member_weights", torch.ones(2))

    @property
    def leaves_out(self) -> bool:
        """Whether some of the networks are trained without each fold."""
        return leave_out([self.network])

    def fit(self, training: TrainingSet) -> np.ndarray:
        """Fit the linear model, of labels one each; returns the offset of each sample, [N, C].

        ValueError if a class has no sample.
        """
        if training.task != "multilabel":
            classes, found = len(self.bias), len(np.unique(training.targets))
            if training.task != "regression" and found < classes:
                raise ValueError(f"only {found} of {classes} classes have samples to fit it to")
            return self._fit(training, slice(None))
        offsets = [
            self._fit(training._replace(targets=label.astype(int), task="binary"), slice(n, n + 1))
            for n, label in enumerate(training.targets.T)
        ]
        return np.concatenate(offsets, axis=1)

    def _fit(self, training: TrainingSet, rows: slice) -> np.ndarray:
        """Fit these rows of the weights; a label's is the difference of its two logits."""
        # Here, since scikit-learn takes a second to import.
        from models.classical import ClassicalModel, base_logits
        from models.stacking import stack_weights

        _, _, targets, groups, task, seed, _ = training
        single = self.bias[rows].shape[0] == 1 and task != "regression"

        def taken(of_classes: np.ndarray) -> np.ndarray:
            return np.diff(of_classes, axis=-1) if single else of_classes

        bias = base_logits(targets, task, 2 if single else len(self.bias))
        offset = np.tile(bias, (len(targets), 1))
        if task == "regression" or len(np.unique(targets)) > 1:
            kind = "ridge" if task == "regression" else "logistic"
            few = kind == "logistic" and len(targets) < FEW_SAMPLES
            inputs = {}
            if len(self.scale.center):
                inputs[f"spectra_{'pca_' if few else ''}{kind}"] = training.spectra
            if self.covariates_weight.shape[1]:
                inputs[f"covariates_{kind}"] = training.covariates
            fits = {
                name: ClassicalModel(name, task, seed).cross_fit(x, targets, groups)
                for name, x in inputs.items()
            }
            weights, bias = stack_weights([logits for logits, _ in fits.values()], targets, task)
            # Without inner folds nothing tells whether a model helps: it is left out.
            weights *= [bool(np.ptp(logits, axis=0).any()) for logits, _ in fits.values()]
            offset = np.zeros_like(offset) + bias
            for (name, (logits, form)), share in zip(fits.items(), weights, strict=True):
                offset += share * logits
                bias = bias + share * form.intercept
                weight = torch.from_numpy(taken(share * form.weight.T).T)
                if name.startswith("covariates"):
                    self.covariates_weight[rows] = weight.float()
                    continue
                self.spectra_weight[rows] = weight.float()
                self.scale.take(form.center, form.spread, form.bound)
        self.bias[rows] = torch.from_numpy(taken(bias)).float()
        return np.asarray(taken(offset), dtype=np.float32)

    def linear(self, spectra: Tensor, mask: Tensor, tabular: Tensor) -> Tensor:
        """The linear model's logits [B, C]."""
        # In half precision the sum over thousands of points is too coarse.
        with torch.autocast(spectra.device.type, enabled=False):
            logits = self.bias.expand(tabular.shape[0], -1)
            if len(self.scale.center):
                points = self.scale(mean_scan(spectra.float(), mask))
                logits = logits + points @ self.spectra_weight.T
            if self.covariates_weight.shape[1]:
                logits = logits + tabular.float() @ self.covariates_weight.T
            return logits

    @torch.no_grad()
    def predict(self, spectra: np.ndarray, covariates: np.ndarray) -> np.ndarray:
        """The linear model's logits [N, C] of mean scans [N, L] and covariates [N, D]."""
        device = self.bias.device
        scans = torch.from_numpy(spectra)[:, None].to(device)
        mask = torch.ones(scans.shape[:2], dtype=torch.bool, device=device)
        return self.linear(scans, mask, torch.from_numpy(covariates).to(device)).cpu().numpy()

    def choose_weights(self, logits: np.ndarray, targets: np.ndarray, task: str) -> None:
        """Weigh the network, from 0 to 1, by logits [N, 2, C] of samples it was not trained on."""
        from models.stacking import stack_weights

        linear, network = logits[:, 0], logits[:, 1]
        weights, _ = stack_weights(
            [network], targets, task, base=linear, toward=0.0, most=1.0, bias=False
        )
        self.member_weights[1] = float(weights[0])

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        tabular: Tensor,
        scan_rows: Tensor | None = None,
        offset: Tensor | None = None,
        fold: Tensor | None = None,
    ) -> Outputs:
        """The network's outputs, with the linear model's logits added to its own.

        In training the offset is added, if given. In evaluation ``member_logits`` [B, 2, C] are
        those of the linear model and the network; given ``fold``, of models that left the sample
        out.
        """
        given = offset if self.training or fold is not None else None
        added = self.linear(spectra, mask, tabular) if given is None else given
        takes = self._takes_rows
        outputs = call_network(self.network, spectra, mask, tabular, scan_rows, takes, fold)
        found = self._add(outputs, added)
        if not self.training:
            logits = outputs[LEFT_OUT if LEFT_OUT in outputs else "logits"]
            found["member_logits"] = torch.stack([added, logits], dim=1)
        return found

    def _add(self, outputs: Mapping[str, Any], added: Tensor) -> Outputs:
        found = dict(outputs)
        for name in LOGITS:
            if found.get(name) is not None:
                found[name] = found[name] * self.member_weights[1] + added
        if PARTS in found:
            found[PARTS] = [self._add(part, added) for part in found[PARTS]]
        return found


def zero_last_layers(network: nn.Module) -> None:
    """Let a network's logits start at zero; ValueError if it has no layers called as ours are."""
    found = False
    for name, module in network.named_modules():
        linear = [layer for layer in module.modules() if isinstance(layer, nn.Linear)]
        if name.rpartition(".")[2] in HEADS and linear:
            nn.init.zeros_(linear[-1].weight)
            if linear[-1].bias is not None:
                nn.init.zeros_(linear[-1].bias)
            found = True
    if not found:
        raise ValueError(
            f"{type(network).__name__} has no last layer called head, which a linear path needs"
        )
