from __future__ import annotations

import subprocess
import sys

import pytest

from experiments.command_line import COMMANDS
from experiments.commands import completion, main
from experiments.config import config_names


def test_the_overview_names_every_command(capsys):
    assert main([]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if line.startswith("  ") and "-" not in line] == [
        *COMMANDS
    ]


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as left:
        main(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("scanfire ")


@pytest.mark.parametrize("command", list(COMMANDS))
def test_each_command_hands_its_words_on(command, capsys):
    with pytest.raises(SystemExit) as left:
        main([command, "--help"])
    assert left.value.code == 0
    assert f"scanfire {command} " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["rum"], "no command is called 'rum'; did you mean 'run'?"),
        (["--complete"], "did you mean --completion?"),
        (["--completion", "bsh"], "'bsh' is unknown; did you mean 'bash'?"),
    ],
)
def test_a_mistake_is_one_line(words, told, capsys):
    assert main(words) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1


def test_without_shtab_the_extra_is_named(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "shtab", None)
    assert main(["--completion", "bash"]) == 2
    assert "pip install 'scanfire[completion]'" in capsys.readouterr().err


@pytest.fixture(scope="module")
def bash() -> str:
    """The script for bash, and a function that completes the last of its words."""
    shown = 'COMP_WORDS=("$@"); COMP_CWORD=$(($#-1)); _shtab_scanfire; echo "${COMPREPLY[*]}"'
    return f"{completion('bash')}\ntry() {{ {shown}; }}\n"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("c", "cv compare"),
        ("run tft_b", "tft_baseline"),
        ("run tft_baseline --optimizer.weight", "--optimizer.weight_decay"),
        ("import --axis-", "--axis-unit"),
        ("new table", "table.csv"),
        ("run my", "my_study.yaml"),
    ],
)
def test_bash_completes(bash, words, expected, tmp_path):
    for name in ("table.csv", "my_study.yaml"):
        (tmp_path / name).touch()
    done = subprocess.run(
        ["bash", "-c", f"{bash}try scanfire {words}"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(done.stdout.split()) == set(expected.split()), done.stderr


@pytest.mark.parametrize("shell", ["zsh", "tcsh", "fish"])
def test_other_shells_have_their_script(shell):
    script = completion(shell)
    assert "max_epochs" in script
    assert shell != "zsh" or all(name in script for name in config_names())
