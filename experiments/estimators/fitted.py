"""A trained network with all that was fitted for it: predictions, and its file."""

from __future__ import annotations

import json
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from datasets.cohort import TargetScaler
from datasets.covariates import CovariateEncoder
from datasets.errors import UsageError, file_errors
from datasets.files import write_whole
from datasets.loading import SpectraDataset, stop_workers
from datasets.transforms import Compose
from engine.eval_mode import eval_mode
from engine.metrics import TASKS, rows_in_order
from engine.model_call import call_model
from experiments.builders import build_network, configured_transforms, evaluation_loader
from experiments.config import Config, check_config
from experiments.launch import own_device

if TYPE_CHECKING:
    from datasets.cohort import Cohort
    from experiments.runs import Experiment

# Of the file's JSON, and of what the names of its tensors begin with.
DESCRIPTION, WEIGHT, STATE = "scanfire", "model.", "state."
FORMAT = 1
TENSOR = "tensor"


@dataclass(frozen=True, eq=False)
class FittedModel:
    """A network, its transforms, encoder and scaler, and the configuration that made them."""

    network: nn.Module
    config: Config
    task: str
    outputs: int
    encoder: CovariateEncoder
    transforms: Compose
    scaler: TargetScaler | None

    @classmethod
    def of(cls, training: Experiment) -> FittedModel:
        """What a training has selected; averaged weights where they are measured."""
        network, data = training.trainer.model, training.data
        with training.handlers.averaged_weights():
            weights = {name: value.detach().clone() for name, value in network.state_dict().items()}
        network.load_state_dict(weights)
        own = data.cohort.task, data.num_classes
        return cls(network, training.config, *own, data.encoder, data.transforms, data.scaler)

    def logits(self, cohort: Cohort) -> Tensor:
        """Of each sample, [N, C], in full precision, in the batches of a run's test set."""
        count, device = len(cohort), own_device(self.config.trainer.device)
        tabular = self.encoder.transform(cohort.samples)
        self._warn_of_new_categories(tabular)
        dataset = SpectraDataset(
            cohort.spectra,
            cohort.scan_rows,
            tabular,
            np.zeros(count, dtype=np.int64),
            [str(number) for number in range(count)],
            transforms=self.transforms,
            cache=False,
        )
        loader = evaluation_loader(self.config, dataset)
        network, found, samples = self.network.to(device), [], []
        try:
            with eval_mode(network), torch.no_grad():
                for batch in loader:
                    found.append(call_model(network, batch.to(device))["logits"].float().cpu())
                    samples += batch.sample_id
        finally:
            stop_workers(loader)
        return torch.cat(found)[rows_in_order(samples, dataset.sample_ids)]

    def _warn_of_new_categories(self, tabular: np.ndarray) -> None:
        """Tell of values that are encoded as no category, of covariates [N, D]."""
        column_of = np.array(self.encoder.feature_columns)
        for column in self.encoder.categorical:
            unknown = int((~tabular[:, column_of == column].any(axis=1)).sum())
            if unknown:
                warnings.warn(
                    f"covariate '{column}': {unknown} of {len(tabular)} samples have a value that "
                    "the training had not; it counts as none of the categories",
                    stacklevel=5,
                )

    def scores(self, cohort: Cohort) -> np.ndarray:
        """Probabilities of classes [N, C], or values in their units [N, T], float64."""
        scores = TASKS[self.task].scores(self.logits(cohort))
        restored = scores if self.scaler is None else self.scaler.restore(scores)
        return np.asarray(restored.double().numpy())

    @property
    def axis(self) -> np.ndarray:
        """That of the raw scans, [L]."""
        return np.asarray(self.transforms.state_dict()["axis"])

    def save(self, path: Path, further: Mapping[str, Any]) -> None:
        """Write weights and states as safetensors, all else as JSON in the file's metadata."""
        tensors = {
            WEIGHT + name: value.detach().cpu().clone().contiguous()
            for name, value in self.network.state_dict().items()
        }
        config = self.config.resolved()
        config["runs_dir"], config["data"]["root"] = "runs", None  # places of this machine
        described = {
            "format": FORMAT,
            "config": config,
            "task": self.task,
            "outputs": self.outputs,
            "encoder": _pack(self.encoder.state_dict(), tensors),
            "transforms": _pack(self.transforms.state_dict(), tensors),
            "scaler": None if self.scaler is None else self.scaler.state_dict(),
            **further,
        }
        content = save(tensors, {DESCRIPTION: json.dumps(described, ensure_ascii=False)})
        with file_errors(f"cannot write {path}"):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_whole(content, path.parent, path.name)

    @classmethod
    def load(cls, path: Path, own: Collection[str] = ()) -> tuple[FittedModel, dict[str, Any]]:
        """Read :meth:`save`'s file; returns the model and what was written with it.

        ``own`` are the dotted paths of models and transforms that the file may import.
        """
        described, tensors = _read(path)
        try:
            config = check_config(described["config"])
            _check_own(config, own, path)
            targets = described["scaler"]
            scaler = None if targets is None else TargetScaler.from_state_dict(targets)
            encoder = CovariateEncoder.from_state_dict(_unpack(described["encoder"], tensors))
            packed = described["transforms"]
            transforms = configured_transforms(config.data) if packed["names"] else Compose([])
            transforms.load_state_dict(_unpack(packed, tensors))
            task, outputs = described["task"], described["outputs"]
            points = 0 if transforms.axis is None else len(transforms.axis)
            sizes = {"tab_dim": len(encoder.feature_names), "spec_len": points}
            network = build_network(config.model, {**sizes, "num_classes": outputs}, task)
            network.load_state_dict(
                {n.removeprefix(WEIGHT): t for n, t in tensors.items() if n.startswith(WEIGHT)}
            )
        except (KeyError, TypeError, RuntimeError) as error:
            raise UsageError(f"{path}: not as an estimator writes it ({error})") from error
        return cls(network.eval(), config, task, outputs, encoder, transforms, scaler), described


def _read(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise UsageError(f"no file {path}; one that save has written was expected")
    try:
        with safe_open(path, framework="pt") as file:
            described = json.loads((file.metadata() or {})[DESCRIPTION])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, ValueError) as error:
        raise UsageError(f"{path}: not a file that an estimator's save has written") from error
    found = described.get("format") if isinstance(described, dict) else None
    if found != FORMAT:
        raise UsageError(f"{path} has format {found}; this version reads {FORMAT}")
    return described, tensors


def _check_own(config: Config, own: Collection[str], path: Path) -> None:
    """Refuse to import what only the file names: importing runs code."""
    members = config.model.members if isinstance(config.model.members, list) else [config.model]
    steps = [s if isinstance(s, str) else s.name for s in config.data.transforms]
    for name in (*(member.name for member in members), *steps):
        if "." in name and name not in own:
            raise UsageError(
                f"{path} imports '{name}'; if you trust it, load it with own=[{name!r}]"
            )


def _pack(state: Any, tensors: dict[str, Tensor]) -> Any:
    """Plain values of a state, whose tensors go to ``tensors``."""
    if isinstance(state, Tensor):
        name = f"{STATE}{len(tensors)}"
        tensors[name] = state.clone().contiguous()
        return {TENSOR: name}
    if isinstance(state, Mapping):
        return {key: _pack(value, tensors) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [_pack(value, tensors) for value in state]
    return state


def _unpack(state: Any, tensors: Mapping[str, Tensor]) -> Any:
    """The inverse of :func:`_pack`."""
    if isinstance(state, dict):
        if set(state) == {TENSOR}:
            return tensors[state[TENSOR]]
        return {key: _unpack(value, tensors) for key, value in state.items()}
    return [_unpack(value, tensors) for value in state] if isinstance(state, list) else state
