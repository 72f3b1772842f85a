"""What a run was made with: code, packages, hardware, data."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

from experiments.launch.context import JOB, RUN_ID
from experiments.launch.installed import installed_requirements

# The key of all installed distributions, as lines of a requirements file.
REQUIREMENTS = "requirements"
PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = (
    "scanfire",
    "torch",
    "pytorch-ignite",
    "torchmetrics",
    "captum",
    "numpy",
    "pandas",
    "scikit-learn",
    "scipy",
    "pybaselines",
    "plotly",
    "pydantic",
    "PyYAML",
    "safetensors",
    "tensorboard",
)


def describe_environment(
    data: Mapping[str, Any], processes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything about the surroundings that another run would need to be the same.

    Args:
        data: What :meth:`experiments.run_files.versions.DataVersion.plain` gives: the cohort's
        files,
            what was done to them, the split.
        processes: What :func:`experiments.launch.describe_group` gives.

    Returns:
        Plain types, for ``environment.json``. What cannot be found out is None.
    """
    cuda = torch.cuda.is_available()
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if (status := _git("status", "--porcelain")) is None else bool(status),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        REQUIREMENTS: installed_requirements(),
        "platform": platform.platform(),
        "host": platform.node(),
        "processor": platform.processor() or platform.machine(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "driver": _driver() if cuda else None,
        "devices": _devices(),
        "command": shlex.join([Path(sys.executable).name, *sys.argv]),
        **({"processes": dict(processes)} if processes else {}),
        **({JOB: os.environ[RUN_ID]} if RUN_ID in os.environ else {}),
        **data,
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _git(*arguments: str) -> str | None:
    return _output(["git", "-C", str(PROJECT), *arguments])


def _devices() -> list[str]:
    """The names of the GPUs; of none where CUDA is not in use, because asking starts it."""
    if not torch.cuda.is_initialized():
        return []
    return [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]


def _driver() -> str | None:
    return _output(["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"])


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
