"""A model as a graph of tensor operations, without its Python code."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from datasets.errors import UsageError
from engine.metrics import TASKS

if TYPE_CHECKING:
    from experiments.exporting.trained_model import TrainedModel

SPECTRA, MASK, COVARIATES = "spectra", "mask", "tabular"
LOGITS, PROBABILITIES, CALIBRATED, VALUES = (
    *("logits", "probabilities", "calibrated_probabilities"),
    "values",
)
# Of the batch that the graph is traced with; both are free in the graph.
BATCH, SCANS = 3, 4
# Names of free dimensions; from 1 on.
FREE = {SPECTRA: ("batch", "scans"), MASK: ("batch", "scans"), COVARIATES: ("batch",)}
MOST_REASON = 200


class ScoredModel(nn.Module):
    """A model's ``logits`` and what follows from them, of the inputs that it reads.

    ``probabilities`` of classes or labels, ``calibrated_probabilities`` where the run has a
    temperature; of a regression ``values`` in the targets' units. All but the logits are float64.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, trained: TrainedModel) -> None:
        super().__init__()
        self.model = trained.model
        self.sizes = trained.sizes
        self.task, self.temperature = trained.task, trained.temperature
        if trained.scaler is not None:
            state = trained.scaler.state_dict()
            for name in ("mean", "std"):
                self.register_buffer(name, torch.tensor(state[name], dtype=torch.float64))

    def forward(
        self,
        spectra: Tensor | None = None,
        mask: Tensor | None = None,
        tabular: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """Score a batch; what the model does not read may be left out."""
        if spectra is None or mask is None:
            assert tabular is not None
            spectra = tabular.new_zeros(tabular.shape[0], 1, self.sizes["spec_len"])
            mask = torch.ones(spectra.shape[:2], dtype=torch.bool, device=spectra.device)
        if tabular is None:
            tabular = spectra.new_zeros(spectra.shape[0], self.sizes["tab_dim"])
        logits = self.model(spectra, mask, tabular)["logits"]
        if self.task == "regression":
            return {LOGITS: logits, VALUES: logits.double() * self.std + self.mean}
        scores = TASKS[self.task].scores
        found = {LOGITS: logits, PROBABILITIES: scores(logits)}
        if self.temperature is not None:
            found[CALIBRATED] = scores(logits.double() / self.temperature)
        return found


def example_inputs(sizes: Mapping[str, int]) -> dict[str, Tensor]:
    """A batch to trace a model with."""
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(BATCH, SCANS, dtype=torch.bool)
    mask[1, 2:] = False
    return {
        SPECTRA: torch.randn(BATCH, SCANS, sizes["spec_len"], generator=generator),
        MASK: mask,
        COVARIATES: torch.randn(BATCH, sizes["tab_dim"], generator=generator),
    }


def trace(trained: TrainedModel) -> ExportedProgram:
    """The graph of a model's scores, with as many samples and scans as wished.

    Its inputs are those that the model reads. UsageError where ``torch.export`` cannot follow it.
    """
    scored = ScoredModel(trained).eval()
    inputs = example_inputs(trained.sizes)
    given = [name for name, tensor in inputs.items() if name == MASK or tensor.shape[-1]]
    if SPECTRA not in given:
        given.remove(MASK)
    program = _trace(scored, {name: inputs[name] for name in given}, trained)
    read = _read_inputs(program)
    # A mask without its spectra would tell a user nothing.
    wanted = [n for n in given if n in read or (n != COVARIATES and {SPECTRA, MASK} & read)]
    if wanted in ([], given):
        return program
    return _trace(scored, {name: inputs[name] for name in wanted}, trained)


def _trace(
    scored: ScoredModel, inputs: Mapping[str, Tensor], trained: TrainedModel
) -> ExportedProgram:
    dims = {name: Dim(name, min=1) for name in ("batch", "scans")}
    shapes = {name: {n: dims[dim] for n, dim in enumerate(FREE[name])} for name in inputs}
    try:
        with torch.no_grad(), quiet():
            return torch.export.export(
                scored, (), dict(inputs), dynamic_shapes=shapes, strict=False
            )
    # Whatever the model's own code raises under tracing.
    except Exception as error:
        name = trained.config.model.title
        reason = " ".join(str(error).split())[:MOST_REASON] or type(error).__name__
        raise UsageError(
            f"the model '{name}' cannot be exported: torch.export cannot trace it ({reason}); a "
            "forward of tensor operations alone was expected, for any number of samples and scans"
        ) from error


def _read_inputs(program: ExportedProgram) -> set[str]:
    """The inputs that some output follows from; the number of samples can be had from any."""
    seen, queue = set(), [program.graph.output_node()]
    while queue:
        node = queue.pop()
        counts = node.target == torch.ops.aten.sym_size.int and node.args[1] == 0
        if node not in seen and not counts:
            seen.add(node)
            queue.extend(node.all_input_nodes)
    return {node.name for node in seen if node.op == "placeholder"}


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters tell of themselves and of packages that they miss."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
