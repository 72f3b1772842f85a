"""The installed distributions as requirements, without running pip."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from importlib import metadata
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit
from urllib.request import url2pathname

DIRECT_URL = "direct_url.json"
FILE_URL = "file"
# What may stand before the host of an address and is no secret.
HARMLESS_USERS = ("git",)


def installed_requirements(
    distributions: Iterable[metadata.Distribution] | None = None,
) -> list[str]:
    """Each installed distribution as a line of a requirements file, sorted by name.

    Lines are as ``pip freeze --all`` writes them: ``name==version``; what was installed from an
    address as ``name @ address`` with its commit or checksum (PEP 610); a folder that was installed
    editable as ``-e folder``, below a comment with its name and version. User names and passwords
    in addresses are left out.

    Args:
        distributions: All that this Python finds if None; of two with one name the first counts.

    Example:
        >>> [line for line in installed_requirements() if line.startswith("numpy==")] != []
        True
    """
    found: dict[str, list[str]] = {}
    for distribution in metadata.distributions() if distributions is None else distributions:
        if "Name" in distribution.metadata:  # what is left of a broken installation has none
            name = distribution.metadata["Name"]
            found.setdefault(_canonical(name), list(_lines(distribution, name)))
    return [line for name in sorted(found) for line in found[name]]


def _canonical(name: str) -> str:
    """The name as package indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _lines(distribution: metadata.Distribution, name: str) -> Iterator[str]:
    pinned = f"{name}=={distribution.version}"
    origin = _origin(distribution)
    if origin is None:
        yield pinned
        return
    url = _without_user(origin["url"])
    if origin.get("dir_info", {}).get("editable"):
        yield f"# Editable install ({pinned})"
        yield f"-e {_path(url)}"
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


def _path(url: str) -> str:
    parts = urlsplit(url)
    return url2pathname(parts.path) if parts.scheme == FILE_URL else unquote(url)
