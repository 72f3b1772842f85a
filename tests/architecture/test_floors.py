"""Imports only ever point down, and the contracts in setup.cfg notice one that does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FLOORS = ("scanfire", "trainers", "experiments", "handlers", "engine", "models", "datasets")
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the packages of a folder against this project's contracts."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--config", str(ROOT / "setup.cfg"), "--no-cache"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def small_project(tmp_path: Path) -> Path:
    """The modules of this project, empty but for allowed imports, and two handlers."""
    for floor in FLOORS:
        for module in (ROOT / floor).rglob("*.py"):
            copy = tmp_path / module.relative_to(ROOT)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.touch()
    sources = {
        "datasets/batch.py": "import torch\n",
        "models/net.py": "import torch\n",
        "engine/events.py": "import ignite.engine\n",
        "engine/loop.py": "import datasets.batch\nimport models.net\n",
        "engine/metrics/__init__.py": "from engine.metrics import tasks\n",
        "engine/losses/registry.py": "import engine.metrics\n",
        "handlers/first.py": "import engine.events\n",
        "handlers/second.py": "import engine.events\n",
        "handlers/__init__.py": "from handlers import first, second\n",
        "experiments/config/schema.py": "import pydantic\n",
        "trainers/alias.py": "import experiments.run\n",
        "experiments/run.py": "import handlers\nimport engine.loop\n"
        "import experiments.config.schema\n",
    }
    for name, text in sources.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_this_project_keeps_every_contract() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_that_point_down_are_allowed(small_project: Path) -> None:
    done = lint_imports(small_project)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize(
    ("file", "line", "contract"),
    [
        ("datasets/batch.py", "import models.net", "Imports point down"),
        ("datasets/batch.py", "from engine.events import x", "Imports point down"),
        ("models/net.py", "import datasets.batch", "Imports point down"),
        ("models/net.py", "def f():\n    import handlers", "Imports point down"),
        ("engine/loop.py", "import handlers.first", "Imports point down"),
        ("engine/loop.py", "import experiments.config.schema", "Imports point down"),
        ("handlers/first.py", "import experiments.run", "Imports point down"),
        ("experiments/run.py", "import trainers.alias", "Imports point down"),
        ("handlers/first.py", "from handlers.second import x", "No handler imports another"),
        ("handlers/first.py", "from . import second", "No handler imports another"),
        ("handlers/first.py", "from handlers import HANDLERS", "No handler imports another"),
        ("models/net.py", "import ignite.distributed", "no event engine"),
        ("datasets/batch.py", "from ignite.engine import Engine", "no event engine"),
        ("handlers/second.py", "from pydantic import BaseModel", "Config stops at the door"),
        ("engine/metrics/tasks.py", "import engine.losses", "No cycle among packages"),
        ("engine/events.py", "def f():\n    import engine.metrics", "Inside engine"),
        ("engine/statistics/delong.py", "import engine.reporting", "Inside engine"),
        ("engine/metrics/ranking.py", "from engine.trainer import x", "Inside engine"),
        ("engine/losses/registry.py", "import engine.metrics.epoch_metrics", "Losses know tasks"),
        ("datasets/scans.py", "import datasets.cohort", "Inside datasets"),
        ("datasets/readers/registry.py", "import datasets.importing", "Inside datasets"),
        ("experiments/builders/data.py", "import experiments.runs", "Inside experiments"),
        ("experiments/config/schema.py", "import experiments.builders", "Inside experiments"),
        ("experiments/report/text/card.py", "import experiments.report.figures", "Inside report"),
        ("experiments/report/report_page.py", "import experiments.builders", "The report takes"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(
    small_project: Path, file: str, line: str, contract: str
) -> None:
    with (small_project / file).open("a") as source:
        source.write(f"{line}\n")
    done = lint_imports(small_project)
    assert done.returncode == 1, done.stdout + done.stderr
    broken = [row for row in done.stdout.splitlines() if "BROKEN" in row]
    assert any(contract in row for row in broken), done.stdout
