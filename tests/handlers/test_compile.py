from __future__ import annotations

import os
import shutil

import pytest
import torch
from torch import nn

from engine import EpochMetrics, Evaluator, Trainer, TrainEvents, UsageError, build_optimizer
from engine.losses import CrossEntropy
from handlers.accumulation import Accumulation
from handlers.compile import (
    CACHE_VARIABLE,
    CPU_OPTIONS,
    GRAPH_OPTIONS,
    USUAL_SHAPES,
    Compile,
    check_compiler,
)
from handlers.mixed_precision import MixedPrecision
from tests.tiny_problem import CLASSES, FEATURES, TinyLoader, TinyModel

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
needs_compiler = pytest.mark.skipif(
    shutil.which(os.environ.get("CXX", "g++")) is None, reason="there is no C++ compiler"
)


class Blocks(TinyModel):
    """The tiny model with two like blocks in a list."""

    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList(nn.Linear(FEATURES, FEATURES) for _ in range(2))

    def forward(self, spectra, mask, tabular):
        for block in self.blocks:
            spectra = spectra + block(spectra).tanh()
        return super().forward(spectra, mask, tabular)


class Dropout(TinyModel):
    """The tiny model with a norm and a layer less, which take most of the compiler's time."""

    def __init__(self):
        super().__init__()
        self.body = nn.Sequential(nn.ReLU(), nn.Dropout(0.1))
        self.head = nn.Linear(FEATURES, CLASSES)


def make(model_class=TinyModel, device="cpu"):
    torch.manual_seed(0)
    model = model_class()
    return Trainer(model, build_optimizer(model, "sgd", lr=0.1), CrossEntropy(), device)


def weights(trainer):
    return torch.cat([p.detach().flatten() for p in trainer.model.parameters()]).cpu()


def trained(trainer, loader, *handlers):
    trainer.attach(*handlers)
    torch.manual_seed(1)
    trainer.fit(loader, 2)
    return weights(trainer)


@pytest.fixture
def calls(monkeypatch):
    """What a backend is given to compile: how many graphs, and of how many of their sizes."""
    graphs = []

    def backend(graph, inputs, options=None):
        graphs.append(graph)
        return graph.forward

    torch._dynamo.reset()
    known = dict.fromkeys([*torch.compiler.list_backends(exclude_tags=()), "counting"])
    monkeypatch.setattr(torch.compiler, "list_backends", lambda exclude_tags=(): list(known))
    monkeypatch.setattr(torch, "compile", compile_with(torch.compile, backend), raising=True)
    return graphs


def compile_with(compile_, backend):
    def compiled(model, **options):
        return compile_(model, **{**options, "backend": backend})

    return compiled


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["default", "regional"])
def test_it_trains_as_without_it(mode, loader):
    plain = trained(make(Blocks), loader)
    compiled = trained(make(Blocks), loader, Compile(mode, backend="aot_eager"))
    torch.testing.assert_close(compiled, plain)


@pytest.mark.slow
@needs_compiler
def test_the_compilers_own_kernels_train_as_without_them(loader, tmp_path, monkeypatch):
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch._dynamo.reset()
    loader.batches = loader.batches[:2]
    # The model has dropout, which draws the same numbers either way.
    plain = trained(make(Dropout), loader)
    compiled = trained(make(Dropout), loader, Compile(cache_dir=tmp_path / "compiled"))
    torch.testing.assert_close(compiled, plain, rtol=1e-4, atol=1e-5)
    assert any((tmp_path / "compiled").iterdir()), "nothing is kept for the next run"


def test_other_sizes_compile_nothing_anew(calls):
    trainer = make()
    trainer.attach(Compile(backend="counting"))
    trainer.fit(TinyLoader(samples=23, batch_size=5), 1)  # batches of 5, and one of 3
    assert len(calls) == 1


def test_sizes_that_are_fixed_compile_each_anew(calls):
    trainer = make()
    trainer.attach(Compile(dynamic=False, backend="counting"))
    trainer.fit(TinyLoader(samples=23, batch_size=5), 1)
    assert len(calls) == 2


class Scaled(TinyModel):
    """The tiny model with a number of its own."""

    def __init__(self):
        super().__init__()
        self.scale = 0.5

    def forward(self, spectra, mask, tabular):
        return super().forward(spectra * self.scale, mask, tabular)


def test_a_number_of_the_model_is_a_constant_in_compiled_code(calls, loader):
    trainer = make(Scaled)
    trainer.attach(Compile(backend="counting"))
    trainer.fit(loader, 1)
    trainer.model.scale = 0.25
    trainer.fit(loader, 2)
    assert len(calls) == 2


def test_a_second_fit_compiles_nothing_anew(calls, loader):
    trainer = make()
    trainer.attach(Compile(backend="counting"))
    trainer.fit(loader, 1)
    trainer.fit(loader, 2)
    assert len(calls) == 1


def test_checkpoints_and_evaluation_use_the_uncompiled_model(calls, loader):
    trainer = make()
    names = list(trainer.model.state_dict())
    trainer.attach(Compile(backend="counting"))
    trainer.fit(loader, 1)
    assert list(trainer.model.state_dict()) == names
    assert trainer.network is not trainer.model
    Evaluator(trainer.model, trainer.loss, EpochMetrics()).evaluate(loader)
    assert len(calls) == 1


def test_only_the_repeated_blocks_are_compiled_in_regions(loader):
    trainer = make(Blocks)
    trainer.attach(Compile("regional", backend="aot_eager"))
    trainer.fit(loader, 1)
    assert trainer.network is trainer.model
    compiled = [m for m in trainer.model.modules() if m._compiled_call_impl is not None]
    assert compiled == list(trainer.model.blocks)


@pytest.mark.parametrize("options", [GRAPH_OPTIONS, CPU_OPTIONS])
def test_torch_knows_the_options_it_is_given(options):
    torch.compile(nn.Linear(2, 2), options=options)  # refuses what it does not know
    with pytest.raises(RuntimeError, match="Unexpected optimization option"):
        torch.compile(nn.Linear(2, 2), options={**options, "unknown": True})


def test_no_warning_is_due_to_a_few_dozen_shapes(monkeypatch):
    from torch._inductor import config

    monkeypatch.setattr(Compile, "_replays", lambda *_: True)  # as on a GPU
    monkeypatch.setattr(config.triton, "cudagraph_dynamic_shape_warn_limit", 8)
    Compile("graphs").start(make())
    assert config.triton.cudagraph_dynamic_shape_warn_limit == USUAL_SHAPES


def test_graphs_without_a_gpu_are_announced_and_left_out(calls, loader):
    trainer, lines = make(), []
    handler = Compile("graphs")
    trainer.attach(handler)
    trainer.add_event_handler(
        TrainEvents.LOG_EVENT, lambda: lines.append(trainer.state.notice["message"])
    )
    trainer.fit(loader, 1)
    assert lines == ["CUDA graphs need a GPU: compiling without them on the cpu"]
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"mode": "graph"}, "compile.mode: there is no 'graph'; did you mean 'graphs'?"),
        (
            {"backend": "inducter"},
            "compile.backend: there is no 'inducter'; did you mean 'inductor'",
        ),
        ({"mode": "graphs", "backend": "eager"}, "graphs needs the backend inductor, not 'eager'"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, line):
    with pytest.raises(UsageError, match=line.replace("?", r"\?")):
        Compile(**settings)


def test_a_model_without_repeated_blocks_is_refused_in_regions():
    with pytest.raises(UsageError, match="TinyModel has no repeated blocks"):
        Compile("regional", backend="eager").attach(make())


def test_a_missing_compiler_is_told_before_the_training(monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(UsageError, match=r"no C\+\+ compiler 'no-such-compiler'"):
        Compile().attach(make())


def test_a_gpu_needs_triton(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UsageError, match="triton"):
        check_compiler(torch.device("cuda"))


class TestOnAGpu:
    pytestmark = needs_gpu

    def test_graphs_train_as_without_them(self):
        runs = []
        for handlers in ((), (Compile("graphs"),)):
            trainer = make(device="cuda")
            trainer.model.body[3].p = 0.0
            EpochMetrics(prefix="train/").attach(trainer)
            weights_ = trained(trainer, TinyLoader(samples=23, batch_size=5), *handlers)
            runs.append((weights_, dict(trainer.state.metrics)))
        torch.testing.assert_close(runs[0][0], runs[1][0], rtol=1e-4, atol=1e-5)
        # What was kept of each step is that step's, not what the next wrote over it.
        assert runs[0][1] == pytest.approx(runs[1][1], rel=1e-3)

    def test_graphs_add_up_the_gradients_of_a_window(self):
        runs = []
        for handlers in ((), (Compile("graphs"),)):
            trainer = make(device="cuda")
            trainer.model.body[3].p = 0.0
            runs.append(trained(trainer, TinyLoader(), Accumulation(3), *handlers))
        torch.testing.assert_close(*runs, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("precision", ["bf16", "fp16"])
    def test_graphs_learn_in_half_precision(self, precision):
        trainer = make(device="cuda")
        EpochMetrics(prefix="train/").attach(trainer)
        trainer.attach(MixedPrecision(precision), Compile("graphs"))
        trainer.fit(TinyLoader(), 1)
        first = trainer.state.metrics["train/loss"]
        trainer.fit(TinyLoader(), 20)
        assert trainer.state.metrics["train/loss"] < 0.7 * first

    def test_no_step_waits_for_the_gpu(self):
        trainer = make(device="cuda")
        trainer.attach(Compile("graphs"))
        loader = TinyLoader()
        loader.batches = [batch.to("cuda") for batch in loader.batches]
        trainer.fit(loader, 3)  # all shapes are recorded
        trainer.add_event_handler(
            TrainEvents.BATCH_READY, lambda: torch.cuda.set_sync_debug_mode("error")
        )
        trainer.add_event_handler(
            TrainEvents.OPTIMIZER_STEPPED, lambda: torch.cuda.set_sync_debug_mode("default")
        )
        try:
            trainer.fit(loader, 4)
        finally:
            torch.cuda.set_sync_debug_mode("default")
