"""`import datasets` is this project's package, though a well-known other one has its name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import datasets

ROOT = Path(__file__).resolve().parents[2]


def complaint(found: str | None) -> str:
    """The line for someone whose `datasets` is another one; empty where it is ours."""
    if found is not None and Path(found).resolve() == ROOT / "datasets" / "__init__.py":
        return ""
    return (
        f"`import datasets` found {found}, not {ROOT / 'datasets'}: another package of that name "
        "is installed (Hugging Face's, as a rule). Uninstall it (pip uninstall datasets), or use "
        "a fresh environment: `make test` makes one in .venv."
    )


def test_datasets_is_imported_from_this_project() -> None:
    problem = complaint(datasets.__file__)
    assert not problem, problem


def test_another_package_of_that_name_is_named_with_what_to_do(tmp_path: Path) -> None:
    problem = complaint(str(tmp_path / "datasets" / "__init__.py"))
    assert str(tmp_path) in problem
    assert "pip uninstall datasets" in problem
    assert "make test" in problem


@pytest.mark.slow
def test_pytest_finds_ours_where_another_one_is_installed(tmp_path: Path) -> None:
    other = tmp_path / "datasets"
    other.mkdir()
    (other / "__init__.py").write_text("raise ImportError('the other datasets')\n")
    first_test = test_datasets_is_imported_from_this_project.__name__
    # Not `python -m pytest`: that would put the project first on sys.path by itself.
    start = "import sys, pytest; sys.path.remove(''); sys.exit(pytest.main(sys.argv[1:]))"
    options = ["-q", "--noconftest", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [sys.executable, "-c", start, *options, f"{__file__}::{first_test}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout
