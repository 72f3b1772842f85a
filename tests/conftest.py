"""Fixtures that any test may use."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

# PyTorch and what needs it are imported where a test asks for them: the process that only deals
# tests out to pytest-xdist's workers, and that they wait for, does without.
if TYPE_CHECKING:
    from engine import Evaluator, Trainer
    from tests.several_processes import Outcomes
    from tests.tiny_problem import TinyLoader

BENCHMARKS = Path(__file__).parent / "experiments" / "benchmarks"
JOBS = {"two_processes", "three_processes"}


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the marks that follow from where a test is, or from the fixtures that it uses."""
    for item in items:
        params = item.callspec.params if hasattr(item, "callspec") else {}
        # A fixture may also be a parameter, which the test asks for by name.
        fixtures = {*getattr(item, "fixturenames", ()), *map(str, params.values())}
        if BENCHMARKS in item.path.parents:
            item.add_marker("benchmark")
        if fixtures & JOBS:
            item.add_marker("distributed")
        if "browser" in fixtures:
            item.add_marker("browser")
        if "real_data" in fixtures:
            item.add_marker("slow")


@pytest.hookimpl(tryfirst=True)
def pytest_collection(session: pytest.Session) -> None:
    """Prepare PyTorch and Hypothesis before any test's module is imported."""
    if session.config.pluginmanager.hasplugin("dsession"):
        return
    import torch
    from hypothesis import settings

    torch.set_num_threads(1)
    # How long an example takes says more of the machine than of the code.
    settings.register_profile("unhurried", deadline=None)
    settings.load_profile("unhurried")


def pytest_collection_finish() -> None:
    """Keep modules and tests out of every later garbage collection: they stay to the end."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def no_waiting_for_the_disk() -> Iterator[None]:
    """Files need not survive a power failure here; programs that tests start still wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder that holds the real cohorts, from the environment."""
    folder = os.environ.get("SCANFIRE_REAL_DATA")
    if not folder:
        pytest.skip("SCANFIRE_REAL_DATA is not set: no folder of real cohorts to test on")
    path = Path(folder)
    assert path.is_dir(), f"SCANFIRE_REAL_DATA names {path}, which is no folder"
    return path


@pytest.fixture
def few_trees(monkeypatch: pytest.MonkeyPatch) -> None:
    """Baselines of ten trees: hundreds take longer than the rest of a small run."""
    from models import classical

    for recipe in (*classical.CLASSIFIERS.values(), *classical.REGRESSORS.values()):
        if hasattr(recipe.model, "n_estimators"):
            monkeypatch.setattr(recipe.model, "n_estimators", 10)


@pytest.fixture
def make_trainer(tmp_path: Path) -> Callable[..., Trainer]:
    """Build a fresh trainer: the same seed gives the same weights."""
    import torch

    from engine import EpochMetrics, Trainer, build_optimizer
    from engine.losses import CrossEntropy
    from tests.tiny_problem import TinyModel

    def make(seed: int = 0, **optimizer: Any) -> Trainer:
        torch.manual_seed(seed)
        model = TinyModel()
        settings = {"name": "adamw", "lr": 0.01, **optimizer}
        run_dir = tmp_path / "run"
        run_dir.mkdir(exist_ok=True)
        trainer = Trainer(
            model, build_optimizer(model, **settings), CrossEntropy(), run_dir=run_dir
        )
        EpochMetrics(prefix="train/").attach(trainer)
        trainer.provide_metrics(*EpochMetrics(prefix="train/").metric_names())
        return trainer

    return make


@pytest.fixture
def loader() -> TinyLoader:
    """Twenty samples in five batches."""
    from tests.tiny_problem import TinyLoader

    return TinyLoader()


@pytest.fixture
def make_evaluator() -> Callable[[Trainer], Evaluator]:
    """Build an evaluator for a trainer's model."""
    from engine import EpochMetrics, Evaluator

    def make(trainer: Trainer) -> Evaluator:
        return Evaluator(trainer.model, trainer.loss, EpochMetrics())

    return make


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where two processes, and then three, have left what they made."""
    from tests.engine import sharding_work
    from tests.made_once import made_once
    from tests.several_processes import run_together

    def work(folder: Path) -> None:
        sharding_work.saved_half_way(folder / "alone.pt", joint=2)
        run_together(folder)

    return made_once(tmp_path_factory, "several_processes", work)


@pytest.fixture(scope="session")
def two_processes(shared_folder: Path) -> Outcomes:
    """What two processes came to, by the module of their work, each in the order of ranks."""
    from tests.several_processes import outcomes_of

    return outcomes_of(2, shared_folder)


@pytest.fixture(scope="session")
def three_processes(shared_folder: Path) -> Outcomes:
    """The same of three, which continue what two had begun."""
    from tests.several_processes import outcomes_of

    return outcomes_of(3, shared_folder)
