"""The formats of an exported model: how each is written, and how a written file is run."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from datasets.errors import UsageError
from experiments.builders import build_network
from experiments.config import ModelConfig
from experiments.exporting.description import FORMAT, VERSION
from experiments.exporting.graph import COVARIATES, FREE, LOGITS, MASK, SPECTRA, quiet

if TYPE_CHECKING:
    from torch import nn
    from torch.export import ExportedProgram

# The entry of each file's metadata that holds the description.
METADATA = "scanfire"
TORCH_METADATA = f"{METADATA}.json"
# In a process of its own, which imports nothing of this project.
ALONE = Path(__file__).with_name("onnx_alone.py")
NEEDED = ("onnx", "onnxruntime", "onnxscript")

Arrays = Mapping[str, np.ndarray]


class Format(NamedTuple):
    """A format: ``write(graph or model, description, path)`` and ``run(path, batches)``."""

    suffix: str
    runtime: str
    write: Callable[[Any, str, Path], None]
    run: Callable[[Path, Sequence[Arrays]], list[dict[str, np.ndarray]]]
    of_graph: bool = True


def require_onnx() -> None:
    """Refuse to write ONNX without its packages (UsageError)."""
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise UsageError(f"--format onnx needs {', '.join(missing)}: pip install 'scanfire[onnx]'")


def write_onnx(program: ExportedProgram, description: str, path: Path) -> None:
    """One file; the description is in its ``metadata_props``."""
    inputs = program.graph_signature.user_inputs
    outputs = list(json.loads(description)["outputs"])
    with quiet():
        made = torch.onnx.export(
            program,
            dynamo=True,
            verbose=False,
            output_names=outputs,
            dynamic_shapes={str(name): dict(enumerate(FREE[str(name)])) for name in inputs},
        )
    assert made is not None
    made.model.metadata_props[METADATA] = description
    made.save(path, external_data=False)


def run_onnx(path: Path, batches: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
    """The outputs of each batch, by onnxruntime in a process without torch."""
    given, told = (path.with_name(f"{path.name}.{kind}.npz") for kind in ("inputs", "outputs"))
    arrays = {f"{n}/{name}": a for n, batch in enumerate(batches) for name, a in batch.items()}
    np.savez(given, **arrays)  # type: ignore[arg-type]
    command = [sys.executable, str(ALONE), str(path), str(given), str(told)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UsageError(f"onnxruntime cannot run the exported file: {reason}")
    found: list[dict[str, np.ndarray]] = [{} for _ in batches]
    with np.load(told) as results:
        for key in results.files:
            number, _, name = key.partition("/")
            found[int(number)][name] = results[key]
    return found


def write_torch(program: ExportedProgram, description: str, path: Path) -> None:
    """An archive of ``torch.export``; the description is one of its extra files."""
    with quiet():
        torch.export.save(program, path, extra_files={TORCH_METADATA: description})


def run_torch(path: Path, batches: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
    """The outputs of each batch, by what the file holds alone."""
    with quiet():
        model = torch.export.load(path).module()
    return [to_arrays(model(**to_tensors(batch))) for batch in batches]


def write_weights(model: nn.Module, description: str, path: Path) -> None:
    """The weights; the description, by which the model is built, is in the metadata."""
    weights = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, path, metadata={METADATA: description})


def load_weights(path: Path) -> tuple[nn.Module, dict[str, Any]]:
    """Build the model of an exported safetensors file, in evaluation mode; and its description."""
    try:
        with safe_open(path, "pt") as file:
            text = (file.metadata() or {}).get(METADATA)
        if text is None:
            raise UsageError(f"{path} has no description '{METADATA}': export.py writes it")
        description = json.loads(text)
        if (description["format"], description["version"]) != (FORMAT, VERSION):
            found = f"'{description['format']}' {description['version']}"
            raise UsageError(f"{path} is {found}, where '{FORMAT}' {VERSION} was expected")
        settings = ModelConfig.model_validate(description["model"]["settings"])
        model = build_network(settings, description["model"]["sizes"], description["task"])
        model.load_state_dict(load_file(path))
    except (OSError, SafetensorError, json.JSONDecodeError, KeyError, RuntimeError) as error:
        reason = " ".join(str(error).split())
        raise UsageError(f"{path} cannot be loaded as an exported model: {reason}") from error
    return model.eval(), description


def run_weights(path: Path, batches: Sequence[Arrays]) -> list[dict[str, np.ndarray]]:
    """The logits of each batch, by a model that is built anew from the file."""
    model, _ = load_weights(path)
    order = (SPECTRA, MASK, COVARIATES)
    with torch.no_grad():
        found = [model(*(to_tensors(batch)[name] for name in order))[LOGITS] for batch in batches]
    return [to_arrays({LOGITS: logits}) for logits in found]


def to_tensors(batch: Arrays) -> dict[str, torch.Tensor]:
    """A batch of arrays as tensors, by name."""
    return {name: torch.from_numpy(values) for name, values in batch.items()}


def to_arrays(outputs: Mapping[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """Outputs as arrays, by name."""
    return {name: tensor.detach().numpy() for name, tensor in outputs.items()}


FORMATS = {
    "onnx": Format(".onnx", "onnxruntime without torch", write_onnx, run_onnx),
    "torch": Format(".pt2", "torch.export.load", write_torch, run_torch),
    "safetensors": Format(
        ".safetensors", "a model built from the file", write_weights, run_weights, of_graph=False
    ),
}
