"""What a run was made with: code, packages, hardware, data."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

import torch

from experiments.launch.context import JOB, RUN_ID

# The key of all installed distributions, as lines of a requirements file.
REQUIREMENTS = "requirements"
PROJECT = Path(__file__).resolve().parents[2]
PACKAGES = (
    *("scanfire", "torch", "pytorch-ignite", "torchmetrics", "captum", "numpy", "pandas"),
    *("scikit-learn", "scipy", "pybaselines", "plotly", "pydantic", "PyYAML", "safetensors"),
    "tensorboard",
)


def describe_environment(
    data: Mapping[str, Any], processes: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Code, packages, hardware and data of a run, for ``environment.json``; None for unknown."""
    cuda = torch.cuda.is_available()
    driver = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    # Where CUDA is not in use, asking for names would start it.
    gpus = torch.cuda.device_count() if torch.cuda.is_initialized() else 0
    return {
        "commit": _git("rev-parse", "HEAD"),
        "dirty": None if (status := _git("status", "--porcelain")) is None else bool(status),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        REQUIREMENTS: installed_requirements(),
        "platform": platform.platform(),
        "host": platform.node(),
        "processor": platform.processor() or platform.machine(),
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cuda": torch.version.cuda if cuda else None,
        "cudnn": torch.backends.cudnn.version() if cuda else None,
        "nccl": ".".join(map(str, torch.cuda.nccl.version())) if cuda else None,
        "driver": _output(driver) if cuda else None,
        "devices": [torch.cuda.get_device_name(number) for number in range(gpus)],
        "command": CREDENTIALS.sub("", shlex.join([Path(sys.executable).name, *sys.argv])),
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
    if not (PROJECT / ".git").exists():  # installed; a repository around it is another project's
        return None
    return _output(["git", "-C", str(PROJECT), *arguments])


def _output(command: list[str]) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# A user and a password in an address, which a search's database may have.
CREDENTIALS = re.compile(r"(?<=://)[^/@\s]*@")
DIRECT_URL = "direct_url.json"
FILE_URL = "file"
# What may stand before the host of an address and is no secret.
HARMLESS_USERS = ("git",)


def installed_requirements(
    distributions: Iterable[metadata.Distribution] | None = None,
) -> list[str]:
    """Each installed distribution as a line of a requirements file, sorted by name.

    As ``pip freeze --all``: ``name==version``, ``name @ address`` with its commit or checksum (PEP
    610), ``-e folder`` below a comment with name and version. User names and passwords in addresses
    are left out.
    """
    found: dict[str, list[str]] = {}
    for distribution in metadata.distributions() if distributions is None else distributions:
        if "Name" in distribution.metadata:  # what is left of a broken installation has none
            name = distribution.metadata["Name"]
            canonical = re.sub(r"[-_.]+", "-", name).lower()  # as indexes compare it (PEP 503)
            found.setdefault(canonical, list(_lines(distribution, name)))
    return [line for name in sorted(found) for line in found[name]]


def _lines(distribution: metadata.Distribution, name: str) -> Iterator[str]:
    pinned = f"{name}=={distribution.version}"
    origin = _origin(distribution)
    if origin is None:
        yield pinned
        return
    url = _without_user(origin["url"])
    if origin.get("dir_info", {}).get("editable"):
        parts = urlsplit(url)
        folder = url2pathname(parts.path) if parts.scheme == FILE_URL else unquote(url)
        yield from (f"# Editable install ({pinned})", f"-e {folder}")
        return
    marks = []
    if "vcs_info" in origin:
        vcs = origin["vcs_info"]
        url = f"{vcs['vcs']}+{url}@{vcs['commit_id']}"
    else:
        marks += _checksum(origin.get("archive_info", {}))
    if origin.get("subdirectory"):
        marks.append(f"subdirectory={origin['subdirectory']}")
    yield f"{name} @ {url}{'#' if marks else ''}{'&'.join(marks)}"


def _origin(distribution: metadata.Distribution) -> dict[str, Any] | None:
    """Where it was installed from; None: from an index, or the file is damaged."""
    text = distribution.read_text(DIRECT_URL)
    try:
        origin = json.loads(text or "null")
    except ValueError:
        return None
    return origin if isinstance(origin, dict) and isinstance(origin.get("url"), str) else None


def _checksum(archive: dict[str, Any]) -> list[str]:
    hashes = archive.get("hashes") or {}
    if hashes:
        algorithm = "sha256" if "sha256" in hashes else min(hashes)
        return [f"{algorithm}={hashes[algorithm]}"]
    return [archive["hash"]] if archive.get("hash") else []


def _without_user(url: str) -> str:
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at or user in HARMLESS_USERS:
        return url
    return urlunsplit(parts._replace(netloc=host))
