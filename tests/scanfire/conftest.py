"""Environments in which the project is installed, beside another distribution or alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from scanfire import FLOORS
from tests.made_once import made_once

ROOT = Path(__file__).resolve().parents[2]
OTHER_NAMES = ("datasets", "models", "engine")
BUILD = "from setuptools import build_meta as b; import sys; getattr(b, sys.argv[1])(sys.argv[2])"


def call(
    *words: str | Path, cwd: Path, env: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run a program, and keep what it prints."""
    return subprocess.run(
        list(map(str, words)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


class Environment:
    """A virtual environment that holds what this one does, but for this project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        self.bin = folder / ("Scripts" if os.name == "nt" else "bin")
        self.site = next(folder.glob("**/site-packages"))
        packages = folder / "packages"
        packages.mkdir()
        for place in Path(sysconfig.get_paths()["purelib"]).iterdir():
            if "scanfire" not in place.name:
                (packages / place.name).symlink_to(place)
        path = f"{self.bin}{os.pathsep}{os.environ['PATH']}"
        self.env = {**os.environ, "PYTHONPATH": str(packages), "PATH": path}

    def pip(self, *words: str | Path) -> None:
        """Install, or uninstall."""
        start = (sys.executable, "-m", "pip", "-q", "--python", self.bin / "python")
        done = call(*start, *words, cwd=self.folder)
        assert done.returncode == 0, done.stdout + done.stderr

    def install(self, wheel: Path) -> None:
        """Install a wheel and nothing else."""
        self.pip("install", "--no-deps", "--no-index", wheel)

    def run(self, program: str, *words: str | Path, cwd: Path) -> str:
        """What a program of the environment prints; it has to succeed."""
        done = call(self.bin / program, *words, cwd=cwd, env=self.env)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def build(source: Path, hook: str, target: Path) -> Path:
    """The wheel that a hook of setuptools makes of a project."""
    target.mkdir(exist_ok=True)
    done = call(sys.executable, "-c", BUILD, hook, target, cwd=source)
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = target.glob("*.whl")
    return made


def copy_project(folder: Path) -> Path:
    """The files that make up this project."""
    for name in (*FLOORS, "scanfire"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.py", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, folder)
    return folder


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, an editable one and its checkout, and a distribution of names that are ours too."""

    def work(folder: Path) -> None:
        checkout = copy_project(folder / "checkout")
        # What an earlier version has built here must not get into the wheel.
        (checkout / "build" / "lib" / "datasets").mkdir(parents=True)
        (checkout / "build" / "lib" / "datasets" / "__init__.py").touch()
        build(checkout, "build_wheel", folder / "wheel")
        build(checkout, "build_editable", folder / "editable")
        write_other(folder / "other" / "others-1.0-py3-none-any.whl")

    return made_once(tmp_path_factory, "wheels", work)


def write_other(wheel: Path) -> None:
    """Another distribution with packages of our names."""
    wheel.parent.mkdir()
    texts = {f"{name}/__init__.py": f"OWNER = 'others'  # {name}\n" for name in OTHER_NAMES}
    about = "others-1.0.dist-info"
    texts[f"{about}/METADATA"] = "Metadata-Version: 2.1\nName: others\nVersion: 1.0\n"
    texts[f"{about}/WHEEL"] = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    texts[f"{about}/RECORD"] = "".join(f"{name},,\n" for name in [*texts, f"{about}/RECORD"])
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, text in texts.items():
            archive.writestr(name, text)


def wheel_in(folder: Path) -> Path:
    """The wheel in a folder."""
    (found,) = folder.glob("*.whl")
    return found


@pytest.fixture(scope="session")
def installed(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with the wheel, installed between two calls for the other distribution."""
    environment = Environment(tmp_path_factory.mktemp("installed"))
    environment.install(wheel_in(wheels / "other"))
    environment.install(wheel_in(wheels / "wheel"))
    return environment
