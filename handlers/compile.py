"""Compiling the model, so that a step launches fewer and larger kernels."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from torch import Tensor, nn

from datasets.errors import UsageError
from datasets.specs import require_choice
from engine.distributed import map_tensors, repeated_blocks, require_unsharded
from engine.events import Phase, TrainEvents
from engine.trainer import Trainer

MODES = ("default", "graphs", "regional")
INDUCTOR = "inductor"
# Folder of inductor's compiled code; read by torch whenever it compiles.
CACHE_VARIABLE = "TORCHINDUCTOR_CACHE_DIR"
# Torch's "reduce-overhead", and independent small kernels in one: a graph of a few hundred kernels
# spends a tenth of its time between them.
GRAPH_OPTIONS = {"triton.cudagraphs": True, "combo_kernels": True}
# Batches that are filled up have a dozen shapes or two, at which torch would warn already.
USUAL_SHAPES = 64
# On a CPU inductor's own random numbers take several times as long as torch's, because they are
# drawn one by one; and with torch's, dropout is the same as without compiling.
CPU_OPTIONS = {"fallback_random": True}


class Compile:
    """Compiles the model with ``torch.compile``; the results differ by rounding only.

    On a GPU dropout also draws other numbers than without compiling, from the same seed.

    - ``default`` compiles the model as a whole.
    - ``regional`` compiles one of its repeated blocks (in a ``nn.ModuleList``) for all: less gain,
      but seconds of compiling instead of a minute.
    - ``graphs`` compiles the model as a whole and replays it as CUDA graphs: a step no longer
      waits for its launches. Each shape of a batch is recorded once, which takes time and memory,
      so batches should share a few shapes (:func:`datasets.batches.packed_collate`). Without a GPU
      it announces so and is ``default``.

    The loss is not compiled. Validation, attribution and export use the model itself, but for
    blocks that are compiled in place. ``dynamic`` sizes may change without compiling again.
    ``cache_dir`` is the folder of compiled code for later runs, unless the environment variable
    ``TORCHINDUCTOR_CACHE_DIR`` is set.
    """

    phase = Phase.PREPARE

    def __init__(
        self,
        mode: str = "default",
        dynamic: bool = True,
        backend: str = INDUCTOR,
        cache_dir: Path | str | None = None,
    ) -> None:
        self.mode = require_choice("compile.mode", mode, MODES)
        backends = torch.compiler.list_backends(exclude_tags=())
        self.backend = require_choice("compile.backend", backend, backends)
        if mode == "graphs" and backend != INDUCTOR:
            raise UsageError(f"compile.mode: graphs needs the backend {INDUCTOR}, not '{backend}'")
        self.dynamic = dynamic
        self.cache_dir = cache_dir
        self._compiled: nn.Module | None = None
        self._own_gradients = False

    def attach(self, trainer: Trainer) -> None:
        """Listen to the start of the run and, for graphs, to the parts of a step."""
        if self.mode == "graphs":
            # They are gathered in each step, at changing addresses.
            require_unsharded(trainer.model, "compile.mode graphs")
        if isinstance(trainer.network, nn.DataParallel):
            raise UsageError("compile does not work with replicas on several GPUs: leave one out")
        if self.backend == INDUCTOR:
            check_compiler(trainer.device)
        if self.mode == "regional" and not repeated_blocks(trainer.model):
            without = f"{type(trainer.model).__name__} has no repeated blocks to compile"
            raise UsageError(f"compile.mode: {without}; use default")
        trainer.add_event_handler(Events.STARTED, self.start)
        if self._replays(trainer):
            # The graphs reuse the memory of the step before.
            begin = torch.compiler.cudagraph_mark_step_begin
            trainer.add_event_handler(TrainEvents.BATCH_READY, begin, phase=self.phase)
            trainer.add_event_handler(TrainEvents.FORWARD_COMPLETED, self.keep_outputs)
            trainer.add_event_handler(TrainEvents.BACKWARD_COMPLETED, self.keep_gradients)

    def _replays(self, trainer: Trainer) -> bool:
        return self.mode == "graphs" and trainer.device.type == "cuda"

    def start(self, trainer: Trainer) -> None:
        """Put the compiled model into the step, once; it is compiled when it is first called."""
        if self._compiled is trainer.model:
            return
        self._compiled = trainer.model
        if self.cache_dir is not None:
            os.environ.setdefault(CACHE_VARIABLE, str(self.cache_dir))
        if self.mode == "graphs" and not self._replays(trainer):
            message = f"CUDA graphs need a GPU: compiling without them on the {trainer.device.type}"
            trainer.log_event("notice", message=message)
        # A float, such as a dropout rate, is a constant: as a symbol it would be computed on the
        # CPU and copied in each step, which on a GPU may even read memory that is not there (2.11).
        torch._dynamo.config.specialize_float = True
        options: dict[str, Any] = {"dynamic": self.dynamic, "backend": self.backend}
        if self._replays(trainer):
            options["options"] = GRAPH_OPTIONS
            # Read whenever a graph is recorded, so it is no option. Its import takes a while.
            from torch._inductor import config as inductor_config

            inductor_config.triton.cudagraph_dynamic_shape_warn_limit = USUAL_SHAPES
        elif self.backend == INDUCTOR and trainer.device.type == "cpu":
            options["options"] = CPU_OPTIONS
        if self.mode == "regional":
            for block in repeated_blocks(trainer.model):
                block.compile(**options)
            return
        compiled: Any = torch.compile(trainer.model, **options)
        if trainer.network is trainer.model:
            trainer.network = compiled
        else:
            # The wrapper for several processes has hooks of its own: they stay outside.
            trainer.network.module = compiled

    def keep_outputs(self, trainer: Trainer) -> None:
        """Copy the model's outputs out of the graphs' memory."""
        trainer.state.outputs = map_tensors(trainer.state.outputs, Tensor.clone)

    def keep_gradients(self, trainer: Trainer) -> None:
        """Copy the gradients of an accumulation's first micro-batch, if others will be added."""
        if not trainer.state.sync_gradients and not self._own_gradients:
            for parameter in trainer.model.parameters():
                if parameter.grad is not None:
                    parameter.grad = parameter.grad.clone()
        self._own_gradients = not trainer.state.sync_gradients


def check_compiler(device: torch.device) -> None:
    """Refuse a device for which inductor lacks a compiler."""
    if device.type == "cuda":
        if importlib.util.find_spec("triton") is None:
            raise UsageError("compile: the package triton, which compiles for GPUs, is missing")
        return
    # As torch chooses it.
    compiler = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(compiler) is None:
        raise UsageError(
            f"compile: no C++ compiler '{compiler}', which compiling for a CPU needs; install one, "
            "or name another in the environment variable CXX"
        )
