"""In a checkout ``scanfire.engine`` is another name of ``engine``."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import scanfire
from engine import trainer

ROOT = Path(__file__).resolve().parents[2]


def test_a_module_is_one_under_both_names():
    assert import_module("scanfire.engine.trainer") is trainer
    assert import_module("scanfire.engine").Trainer is trainer.Trainer
    config = import_module("scanfire.experiments.config")
    assert config.load_config.__module__ == "experiments.config.source"
    assert trainer.__spec__.name == "engine.trainer"


def test_what_is_not_there_is_not_found():
    with pytest.raises(ModuleNotFoundError, match="no_such"):
        import_module("scanfire.engine.no_such")
    with pytest.raises(ModuleNotFoundError, match=r"scanfire\.no_such"):
        import_module("scanfire.no_such")


@pytest.fixture
def beside_another(tmp_path):
    """Run code where another `datasets` comes first, and this checkout last."""
    (tmp_path / "datasets").mkdir()
    (tmp_path / "datasets" / "__init__.py").touch()
    places = os.pathsep.join(map(str, (tmp_path, ROOT)))

    def run(code: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": places},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.slow
def test_the_checkouts_packages_are_found_first(beside_another):
    done = beside_another("from scanfire.datasets.errors import UsageError as e; print(e)")
    assert done.stdout == "<class 'datasets.errors.UsageError'>\n", done.stderr


@pytest.mark.slow
def test_another_package_that_is_imported_already_is_named(beside_another, tmp_path):
    done = beside_another("import datasets; from scanfire.datasets import cohort")
    assert f"ImportError: `datasets` is {tmp_path / 'datasets'} here" in done.stderr
    assert f"pip install {ROOT}" in done.stderr
    assert scanfire.CHECKOUT == ROOT
