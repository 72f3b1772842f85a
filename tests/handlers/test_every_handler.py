"""What holds for every handler of ``HANDLERS``."""

from __future__ import annotations

import importlib.util
import inspect
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Events

from datasets.errors import UsageError
from engine.checkpointing import save_checkpoint
from engine.events import Phase
from experiments.config import construct, find_named
from handlers import HANDLERS
from tests.forked import ERR, start_forked
from tests.handlers.handler_contract import EPOCHS, NEEDS_PACKAGE, build, continue_runs, finish
from tests.made_once import made_once
from tests.tiny_problem import TinyLoader

ROOT = Path(__file__).resolve().parents[2]
LEAST_HANDLERS = 18
CUT_AFTER = 2


def is_there(name: str) -> bool:
    package = NEEDS_PACKAGE.get(name)
    return package is None or importlib.util.find_spec(package) is not None


def equal(left, right) -> bool:
    if isinstance(left, torch.Tensor):
        return torch.equal(left, right)
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    if isinstance(left, (list, tuple)):
        return len(left) == len(right) and all(map(equal, left, right))
    return left == right or (left != left and right != right)


@pytest.fixture(scope="module")
def resumed_runs(tmp_path_factory):
    """Each handler's run, cut after two epochs and continued in another process."""
    return made_once(tmp_path_factory, "handler_contract", cut_and_resume)


def cut_and_resume(folder: Path) -> None:
    names = [name for name in HANDLERS if is_there(name)]
    former = Path.cwd()
    os.chdir(folder)
    try:
        for name in names:
            trainer, handler = build(name, folder / name / "cut")

            @trainer.on(Events.EPOCH_COMPLETED(once=CUT_AFTER), phase=Phase.REPORT)
            def leave(trainer, name=name):
                save_checkpoint(folder / name / "cut.pt", trainer.capture())
                raise KeyboardInterrupt

            with pytest.raises(KeyboardInterrupt):
                finish(trainer, handler)
        process = start_forked(folder, continue_runs, folder, names)
        process.join(120)
        process.kill()
        assert process.exitcode == 0, (folder / ERR).read_text()
    finally:
        os.chdir(former)


def test_each_handler_has_a_file_and_a_test_file_of_its_name(capsys):
    with capsys.disabled():
        print(f"\n{len(HANDLERS)} handlers under contract: {', '.join(HANDLERS)}")
    assert len(HANDLERS) >= LEAST_HANDLERS
    modules = [path.rpartition(".")[0] for path in HANDLERS.values()]
    assert len(set(modules)) == len(modules)
    for module in modules:
        stem = module.rpartition(".")[2]
        assert (ROOT / "handlers" / f"{stem}.py").is_file()
        assert (ROOT / "tests" / "handlers" / f"test_{stem}.py").is_file()
    files = {path.stem for path in (ROOT / "handlers").glob("*.py")} - {"__init__"}
    assert files == {module.rpartition(".")[2] for module in modules}, "one is not in HANDLERS"


@pytest.mark.parametrize("name", HANDLERS)
def test_it_declares_its_order_and_says_what_it_is(name):
    cls = find_named(name, HANDLERS, "name")
    assert isinstance(cls.phase, Phase)
    assert inspect.getdoc(cls)
    assert inspect.getdoc(cls.attach)


@pytest.mark.parametrize("name", HANDLERS)
def test_attaching_it_does_nothing_until_its_event_fires(name, tmp_path, monkeypatch):
    if not is_there(name):
        pytest.skip(f"the package {NEEDS_PACKAGE[name]} is not installed")
    monkeypatch.chdir(tmp_path)
    alone, _ = build("accumulation", tmp_path / "alone")
    random_state = torch.get_rng_state()
    trainer, _ = build(name, tmp_path / "run")
    assert equal(dict(alone.model.state_dict()), dict(trainer.model.state_dict()))
    assert equal(random_state, torch.get_rng_state())
    assert list((tmp_path / "run").iterdir()) == []
    assert trainer.state.iteration == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", HANDLERS)
def test_alone_and_restored_in_a_new_process_it_runs_alike(name, tmp_path, request, monkeypatch):
    if not is_there(name):
        pytest.skip(f"the package {NEEDS_PACKAGE[name]} is not installed")
    folder = request.getfixturevalue("resumed_runs")
    monkeypatch.chdir(tmp_path)
    trainer, handler = build(name, tmp_path / "straight")
    straight = finish(trainer, handler)
    resumed = torch.load(folder / name / "resumed.pt", weights_only=True)
    assert straight["trainer"]["iteration"] == EPOCHS * len(TinyLoader())
    assert straight.keys() == resumed.keys()
    for part in straight:
        assert equal(straight[part], resumed[part]), f"{part} differs after the resume"


@pytest.mark.parametrize("name", HANDLERS)
def test_an_unknown_parameter_is_refused(name):
    with pytest.raises(UsageError, match="has no parameter 'not_a_parameter'"):
        construct(find_named(name, HANDLERS, "name"), {"not_a_parameter": 1}, "handlers.0.params")


@pytest.mark.slow
def test_the_short_names_are_listed_without_importing_torch():
    code = "import sys, handlers, models; assert handlers.HANDLERS and models.MODELS"
    code += "; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
    from handlers import EMA
    from models import TFTMultimodal

    assert EMA.__module__ == "handlers.ema"
    assert issubclass(TFTMultimodal, torch.nn.Module)
