"""The transcript of the first steps is what a user's shell shows."""

from __future__ import annotations

import doctest
import re
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.docs.test_examples import FILE_NAME, blocks
from tests.scanfire.conftest import Environment

PAGE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "first_steps.md"
HOW = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
# What the fixture has done, without the network.
INSTALLS = ("python3 -m venv env", ". env/bin/activate", "pip install 'SCANFIRE[baselines]'")


class Command(NamedTuple):
    """A command of the transcript, and what it is to show."""

    words: str
    shown: str


def commands(text: str) -> list[Command]:
    return [Command(*part.split("\n", 1)) for part in re.split(r"^\$ ", text, flags=re.M)[1:]]


def run_all(text: str, folder: Path, environment: Environment) -> list[str]:
    """Run the commands of a block, and compare what they print; returns the commands."""
    done = []
    for command in commands(text):
        done.append(command.words)
        if command.words in INSTALLS:
            continue
        ended = subprocess.run(
            ["bash", "-c", command.words],
            cwd=folder,
            env={**environment.env, "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ended.returncode == 0, ended.stdout + ended.stderr
        alike = doctest.OutputChecker().check_output(command.shown, ended.stdout, HOW)
        assert alike, f"$ {command.words}\n{ended.stdout}\n-- expected:\n{command.shown}"
    return done


@pytest.mark.slow
@pytest.mark.timeout(900)  # a whole run, a half minute of one core
def test_the_transcript_is_what_a_shell_shows(installed, tmp_path):
    done = []
    for block in blocks(PAGE):
        file = FILE_NAME.match(block.text)
        if file:
            (tmp_path / file[1]).write_text(block.text)
        else:
            assert block.language == "console"
            done += run_all(block.text, tmp_path, installed)
    assert {*INSTALLS} < {*done}
    own = [words for words in done if words not in INSTALLS]
    assert len([words for words in own if words.startswith("scanfire ")]) >= 6
    assert (tmp_path / "runs" / "study" / "report" / "index.html").is_file()
