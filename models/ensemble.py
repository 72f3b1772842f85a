"""Networks and classical models together: their logits are a weighted sum."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from models.checks import Outputs
from models.combination import (
    JOINED,
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
    from models.classical import ClassicalModel
    from models.combination import TrainingSet

# Probabilities of 0 have no logarithm.
SMALLEST = 1e-6


class Ensemble(Weighted):
    """Networks that are trained side by side, each with the loss for itself, and classical models.

    At least one network is needed; the classical models are fitted before the training. The logits
    are the mean of all members', or with ``stacked`` a sum whose weights from 0 are chosen by
    samples that the members were not trained on, drawn towards the mean. Of a regression the
    members' values take the place of logits.

    Attributions by gradients are those of the networks and linear models: trees have no gradient.
    """

    def __init__(
        self,
        networks: Mapping[str, nn.Module],
        classical: Mapping[str, ClassicalMember],
        stacked: bool = True,
    ) -> None:
        super().__init__()
        self.networks = nn.ModuleDict(networks)
        self._takes_rows = taking_rows(networks.values())
        self.classical = nn.ModuleDict(classical)
        self.stacked = stacked
        if not networks:
            raise ValueError("an ensemble needs at least one network: others are not trained")
        self.member_names = [*networks, *classical]
        count = len(self.member_names)
        self.register_buffer("member_weights", torch.full((count,), 1 / count))

    @property
    def leaves_out(self) -> bool:
        """Whether some of the networks are trained without each fold."""
        return self.stacked and leave_out(self.networks.values())

    @property
    def without_gradient(self) -> list[str]:
        """Members of trees that have a weight."""
        weights = dict(zip(self.member_names, self.member_weights.tolist(), strict=True))
        of_trees = [
            name
            for name, own in self.classical.items()
            if any(isinstance(part, Trees) for part in own.modules())
        ]
        return [name for name, weight in weights.items() if name in of_trees and weight]

    def choose_weights(self, logits: np.ndarray, targets: np.ndarray, task: str) -> None:
        """Weigh the members by logits [N, M, C] of samples that none was trained on."""
        if not self.stacked:
            return
        from models.stacking import stack_weights

        # Relative to the mean: a share that is as likely to be drawn to it whatever the number is.
        shares = logits.swapaxes(0, 1) / len(self.member_names)
        weights, _ = stack_weights(list(shares), targets, task, bias=False)
        self.member_weights.copy_(torch.from_numpy(weights) / len(self.member_names))

    def forward(
        self,
        spectra: Tensor,
        mask: Tensor,
        tabular: Tensor,
        scan_rows: Tensor | None = None,
        offset: Tensor | None = None,
        fold: Tensor | None = None,
    ) -> Outputs:
        """The networks' outputs side by side, and ``logits`` [B, C] of all members.

        In training these are the mean of the networks', whose outputs are ``parts``; in evaluation
        ``member_logits`` [B, M, C] are those of each. Given ``fold``, they and ``logits`` are of
        members that left the samples out; those of the classical models are the ``offset``.
        """
        each = [
            call_network(network, spectra, mask, tabular, scan_rows, takes, fold)
            for network, takes in zip(self.networks.values(), self._takes_rows, strict=True)
        ]
        outputs = _side_by_side(each)
        logits = [own["logits"] for own in each]
        if self.training:
            outputs["logits"] = torch.stack(logits).mean(dim=0)
            outputs[PARTS] = [part for own in each for part in own.get(PARTS, [own])]
            return outputs
        if fold is None:
            logits += [member(spectra, mask, tabular) for member in self.classical.values()]
        else:
            logits = [own.get(LEFT_OUT, own["logits"]) for own in each]
            if offset is not None:
                logits += offset.view(len(offset), -1, offset.shape[-1]).unbind(dim=1)
        together = torch.stack(logits, dim=1)
        # Not as a product of matrices, which mixed precision would round.
        outputs["logits"] = (self.member_weights[:, None] * together).sum(dim=1)
        return {**outputs, "member_logits": together}


def _side_by_side(each: Sequence[Mapping[str, Any]]) -> Outputs:
    """Embeddings that all networks have, joined; of attention weights of one name the first."""
    found: Outputs = {}
    attention: dict[str, Tensor] = {}
    for outputs in each:
        attention = {**outputs.get("attention_weights", {}), **attention}
    for name in JOINED:
        vectors = [outputs[name] for outputs in each if outputs.get(name) is not None]
        # A gate is compared with the spectra's vectors, of which there would be more.
        if len(vectors) == len(each):
            found[name] = torch.cat(vectors, dim=-1)
    return {**found, "attention_weights": attention} if attention else found


class ClassicalMember(nn.Module):
    """A classical model, by a name of ``models.classical`` that is linear or of extra trees.

    It sees the mean scan or the covariates, as its name says. Of several labels each has a model of
    its own.
    """

    def __init__(self, name: str, features: int, num_classes: int, task: str) -> None:
        super().__init__()
        self.name, self.task = name, task
        self.sizes = features, num_classes
        self.of_spectra = name.startswith("spectra")
        count, width = (num_classes, 2) if task == "multilabel" else (1, num_classes)
        make = Trees if name.endswith("extra_trees") else LinearModel
        self.models = nn.ModuleList(make(features, width) for _ in range(count))

    def fit(self, training: TrainingSet) -> np.ndarray | None:
        """Fit to the training set; given folds, returns each sample's logits without its fold."""
        # Here, since scikit-learn takes a second to import.
        from models.classical import ClassicalModel, base_logits

        x, y = training.spectra if self.of_spectra else training.covariates, training.targets
        fitted = ClassicalModel(self.name, training.task, training.seed)
        self._take(fitted.fit(x, y, training.groups))
        if training.fold is None:
            return None
        logits = np.zeros((len(x), self.sizes[1]), dtype=np.float32)
        if self.task != "multilabel":  # of which each sample is in a fold
            logits += base_logits(y, self.task, self.sizes[1])
        without = ClassicalMember(self.name, *self.sizes, self.task)
        for number in range(training.fold.max() + 1):
            left = training.fold == number
            without._take(fitted.fit_again(x[~left], y[~left], training.groups[~left]))
            logits[left] = without._logits(torch.from_numpy(x[left])).numpy()
        return logits

    def _take(self, fitted: ClassicalModel) -> None:
        for model, estimator in zip(self.models, fitted.estimators, strict=True):
            assert isinstance(model, LinearModel | Trees)
            model.take(estimator)

    def forward(self, spectra: Tensor, mask: Tensor, tabular: Tensor) -> Tensor:
        """Logits or values, [B, C]."""
        with torch.autocast(tabular.device.type, enabled=False):
            return self._logits(mean_scan(spectra.float(), mask) if self.of_spectra else tabular)

    def _logits(self, x: Tensor) -> Tensor:
        found = [model(x.float()) for model in self.models]
        if self.task == "multilabel":
            found = [logits[:, 1:] - logits[:, :1] for logits in found]
        return torch.cat(found, dim=1)


class LinearModel(nn.Module):
    """``clip((x - center) / spread) @ weight.T + intercept``."""

    weight: Tensor
    intercept: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        self.scale = ClippedScale(features)
        self.register_buffer("weight", torch.zeros(width, features))
        self.register_buffer("intercept", torch.zeros(width))

    def take(self, estimator: Any) -> None:
        """Take a fitted pipeline, or a label's constant probability."""
        from models.classical import LinearForm

        if isinstance(estimator, float):
            self.intercept.copy_(constant_logits(estimator))
            return
        form = LinearForm.of(estimator)
        self.scale.take(form.center, form.spread, form.bound)
        self.weight.copy_(torch.from_numpy(form.weight))
        self.intercept.copy_(torch.tensor(form.intercept))

    def forward(self, x: Tensor) -> Tensor:
        """Logits or values [B, C] of x [B, F]."""
        return self.scale(x) @ self.weight.T + self.intercept


def constant_logits(probability: float) -> Tensor:
    """Logits of a label that all or none of the training samples have, [2]."""
    chances = torch.tensor([1 - probability, probability])
    return chances.clamp_min(SMALLEST).log()


class Trees(nn.Module):
    """Trees of scikit-learn as tensors: log of the mean probabilities, or the mean values.

    ``feature``, ``threshold``, ``left`` and ``right`` are [T, nodes]; a leaf leads to itself.
    ``value`` is [T, nodes, C]. ``depth`` steps lead from each root to a leaf.
    """

    TABLES = ("feature", "threshold", "left", "right", "value")
    feature: Tensor
    threshold: Tensor
    left: Tensor
    right: Tensor
    value: Tensor
    depth: Tensor
    logarithm: Tensor

    def __init__(self, features: int, width: int) -> None:
        super().__init__()
        for name in ("feature", "left", "right"):
            self.register_buffer(name, torch.zeros(1, 1, dtype=torch.int32))
        self.register_buffer("threshold", torch.zeros(1, 1))
        self.register_buffer("value", torch.zeros(1, 1, width))
        self.register_buffer("depth", torch.zeros((), dtype=torch.long))
        # The same as a plain number: no waiting for a device, and an exported graph can count it.
        self.steps = 0
        self.register_buffer("logarithm", torch.tensor(True))

    def take(self, estimator: Any) -> None:
        """Take a fitted pipeline of extra trees, or a label's constant probability."""
        if isinstance(estimator, float):
            self.value = constant_logits(estimator).softmax(0).view(1, 1, -1)
            return
        trees = [tree.tree_ for tree in estimator[-1].estimators_]
        most = max(tree.node_count for tree in trees)
        own = np.arange(most)
        tables: dict[str, list[np.ndarray]] = {name: [] for name in self.TABLES}
        for tree in trees:
            rest = most - tree.node_count
            leaf = tree.children_left < 0
            here = own[: tree.node_count]
            # The largest float32 that is at most the threshold: both decide float32 alike.
            threshold = tree.threshold.astype(np.float32)
            above = threshold > tree.threshold
            threshold[above] = np.nextafter(threshold[above], np.float32(-np.inf))
            value = tree.value[:, :, 0] if tree.n_outputs > 1 else tree.value[:, 0, :]
            for name, table in (
                ("feature", np.where(leaf, 0, tree.feature)),
                ("threshold", threshold),
                ("left", np.where(leaf, here, tree.children_left)),
                ("right", np.where(leaf, here, tree.children_right)),
                ("value", value),
            ):
                tables[name].append(np.pad(table, [(0, rest), *[(0, 0)] * (table.ndim - 1)]))
        for name, parts in tables.items():
            kind = getattr(self, name).dtype
            setattr(self, name, torch.from_numpy(np.stack(parts)).to(kind))
        self.steps = max(tree.max_depth for tree in trees)
        self.depth.fill_(self.steps)
        self.logarithm.fill_(hasattr(estimator[-1], "classes_"))

    def _load_from_state_dict(self, state: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the tables' sizes from what is loaded."""
        for name in self.TABLES:
            saved = state.get(prefix + name)
            if saved is not None:
                setattr(self, name, getattr(self, name).new_zeros(saved.shape))
        if prefix + "depth" in state:
            self.steps = int(state[prefix + "depth"])
        super()._load_from_state_dict(state, prefix, *args)

    def forward(self, x: Tensor) -> Tensor:
        """Logits or values [B, C] of x [B, F]."""
        trees = torch.arange(len(self.feature), device=x.device)
        node = torch.zeros(x.shape[0], len(trees), dtype=torch.long, device=x.device)
        for _ in range(self.steps):
            value = x.gather(1, self.feature[trees, node].long())
            goes_left = value <= self.threshold[trees, node]
            node = torch.where(goes_left, self.left[trees, node], self.right[trees, node]).long()
        mean = self.value[trees, node].mean(dim=1)
        return torch.where(self.logarithm, mean.clamp_min(SMALLEST).log(), mean)
