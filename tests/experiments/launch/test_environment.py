"""The installed distributions as requirements."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from importlib import metadata

import pytest

from experiments.launch.environment import describe_environment, installed_requirements

COMMIT = "1" * 40
VCS = {"vcs": "git", "commit_id": COMMIT}


def installed(folder, name, version="1.0", origin=None):
    """A distribution as an installer leaves it."""
    info = folder / f"{name}-{version}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    if origin is not None:
        text = origin if isinstance(origin, str) else json.dumps(origin)
        (info / "direct_url.json").write_text(text)
    return metadata.PathDistribution(info)


@pytest.mark.parametrize(
    ("origin", "lines"),
    [
        (None, ["thing==1.0"]),
        (
            {"url": "https://example.org/a.git", "vcs_info": VCS},
            [f"thing @ git+https://example.org/a.git@{COMMIT}"],
        ),
        (
            {"url": "ssh://git@example.org/a.git", "vcs_info": VCS, "subdirectory": "sub"},
            [f"thing @ git+ssh://git@example.org/a.git@{COMMIT}#subdirectory=sub"],
        ),
        (
            {"url": "https://user:secret@example.org/a.git", "vcs_info": VCS},
            [f"thing @ git+https://example.org/a.git@{COMMIT}"],
        ),
        (
            {"url": "https://example.org/a.whl", "archive_info": {"hash": "sha256=ab"}},
            ["thing @ https://example.org/a.whl#sha256=ab"],
        ),
        (
            {"url": "https://example.org/a.whl", "archive_info": {"hashes": {"sha256": "ab"}}},
            ["thing @ https://example.org/a.whl#sha256=ab"],
        ),
        ({"url": "file:///lab/thing", "dir_info": {}}, ["thing @ file:///lab/thing"]),
        (
            {"url": "file:///my%20lab/thing", "dir_info": {"editable": True}},
            ["# Editable install (thing==1.0)", "-e /my lab/thing"],
        ),
        ("{damaged", ["thing==1.0"]),
    ],
)
def test_a_distribution_is_written_as_it_was_installed(origin, lines, tmp_path):
    assert installed_requirements([installed(tmp_path, "thing", origin=origin)]) == lines


def test_they_are_sorted_by_name_and_each_stands_once(tmp_path):
    found = [
        installed(tmp_path / folder, name, version)
        for folder, name, version in (
            ("a", "zeta", "1"),
            ("a", "Alpha_one", "2"),
            ("b", "alpha-one", "9"),  # hidden by the first
            ("b", "beta", "3"),
        )
    ]
    assert installed_requirements(found) == ["Alpha_one==2", "beta==3", "zeta==1"]


def test_a_distribution_without_a_name_is_left_out(tmp_path):
    (tmp_path / "x-1.dist-info").mkdir()
    (tmp_path / "x-1.dist-info" / "METADATA").write_text("Metadata-Version: 2.1\n")
    assert installed_requirements([metadata.PathDistribution(tmp_path / "x-1.dist-info")]) == []


def test_the_environment_lists_all_packages():
    lines = describe_environment({})["requirements"]
    assert lines == installed_requirements()
    named = {re.split(r"==| @ ", line)[0].lower() for line in lines}
    assert {"torch", "numpy", "pytest"} <= named


@pytest.mark.slow
def test_pip_reads_the_lines_as_it_wrote_them(tmp_path):
    frozen = subprocess.run(
        [sys.executable, "-m", "pip", "freeze", "--all", "--disable-pip-version-check"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,  # pip looks into the working folder too
    )
    if frozen.returncode:
        pytest.skip("pip is not installed")

    def told(lines):  # pip tells otherwise of an editable one, as this project mostly is
        return {line for line in lines if line and not line.startswith(("#", "-e", "scanfire=="))}

    assert told(installed_requirements()) == told(frozen.stdout.splitlines())


@pytest.mark.parametrize("word", ["--storage=postgresql://me:secret@host/x", "ftp://me:secret@h/"])
def test_the_command_is_kept_without_passwords(word, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sweep.py", "--storage", word, "a@b"])
    command = describe_environment({})["command"]
    assert "secret" not in command
    assert word.replace("me:secret@", "") in command
    assert command.endswith("a@b")
