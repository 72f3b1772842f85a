from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from datasets.errors import UsageError
from experiments.command_line import (
    CommandParser,
    as_typed,
    path_argument,
    read_overrides,
    run_command,
)

ROOT = Path(__file__).resolve().parents[2]


def refuse() -> int:
    raise UsageError("no column 'AFPP'")


def stop() -> int:
    raise KeyboardInterrupt


def break_down() -> int:
    raise ZeroDivisionError


def test_the_work_says_what_to_leave_with():
    assert run_command(lambda: 0) == 0
    assert run_command(lambda: 143) == 143


def test_what_a_user_can_mend_is_one_line_and_exit_code_2(capsys):
    assert run_command(refuse) == 2
    assert capsys.readouterr().err == "error: no column 'AFPP'\n"


def test_an_interrupt_says_how_to_go_on(capsys):
    assert run_command(stop, "interrupted; the same command line continues") == 130
    assert capsys.readouterr().err == "interrupted; the same command line continues\n"


def test_a_bug_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(break_down)


def parser() -> CommandParser:
    made = CommandParser(prog="x.py")
    made.add_argument("name")
    made.add_argument("--dry-run", action="store_true")
    made.add_argument("--out", type=path_argument)
    return made


@pytest.mark.parametrize(
    ("word", "hint"),
    [("--dryrun", "--dry-run"), ("--dry_run", "--dry-run"), ("--versio", "--version")],
)
def test_a_misspelt_option_gets_the_nearest(word, hint):
    with pytest.raises(UsageError, match=f"{word} is not known; did you mean {hint}?"):
        parser().split_words(["a", word], lambda: {"seed"})
    with pytest.raises(UsageError, match=f"{word}; did you mean {hint}?"):
        parser().parse_args(["a", word])


def test_a_misspelt_choice_gets_the_nearest():
    made = parser()
    made.add_argument("--format", choices=["onnx", "torch"])
    told = r"--format: 'onx' is unknown; did you mean 'onnx'\? \(choices: onnx, torch\) \(--help"
    with pytest.raises(UsageError, match=told):
        made.parse_args(["a", "--format", "onx"])


def test_a_key_of_the_configuration_is_no_misspelt_option():
    words = ["--outs.x", "3", "--seed", "1"]
    _, rest = parser().split_words(["a", *words], lambda: {"outs", "seed"})
    assert rest == words


def test_what_the_parser_refuses_is_one_line():
    with pytest.raises(UsageError, match="required: name") as refused:
        parser().parse_args([])
    assert "\n" not in str(refused.value)
    with pytest.raises(UsageError, match="--out: a path was expected, not an empty text"):
        parser().parse_args(["a", "--out", ""])


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit) as left:
        parser().parse_args(["--version"])
    assert left.value.code == 0
    assert capsys.readouterr().out.startswith("scanfire ")


def test_overrides_are_read_in_either_spelling():
    words = ["--seed", "3", "--optimizer.lr=3e-4"]
    assert read_overrides(words) == [("seed", "3"), ("optimizer.lr", "3e-4")]


@pytest.mark.parametrize("words", [["seed", "3"], ["--seed"]])
def test_what_is_no_override_is_refused(words):
    with pytest.raises(UsageError):
        read_overrides(words)


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """What is printed to type next, after a command was started as ``started`` in a folder."""
    monkeypatch.chdir(tmp_path)

    def next_command(started: str, python: str = "/somewhere/python") -> str:
        monkeypatch.setattr(sys, "argv", [started])
        monkeypatch.setattr(sys, "executable", python)
        return as_typed("run.py")

    return next_command


def test_a_script_names_the_script_beside_it(typed, tmp_path):
    script = str(ROOT / "experiments" / "compare.py")
    assert typed(script) == f"/somewhere/python {ROOT}/experiments/run.py"
    (tmp_path / "experiments").symlink_to(ROOT / "experiments")
    assert typed("experiments/audit_cohort.py") == "/somewhere/python experiments/run.py"


def test_a_program_is_named_by_its_path_unless_the_shell_finds_it(typed, tmp_path, monkeypatch):
    inside = tmp_path / "my env" / "bin" / "python"
    script = str(ROOT / "experiments" / "compare.py")
    assert typed(script, str(inside)).startswith("'my env/bin/python' ")
    monkeypatch.setattr(shutil, "which", lambda name: str(inside) if name == "python" else None)
    assert typed(script, str(inside)).startswith("python ")
    assert typed(str(tmp_path / "bin" / "scanfire")) == "bin/scanfire run"
    monkeypatch.setattr(shutil, "which", lambda name: str(tmp_path / "bin" / name))
    assert typed(str(tmp_path / "bin" / "scanfire")) == "scanfire run"


def test_the_one_command_names_itself(typed):
    assert typed("/lib/scanfire/__main__.py") == "/somewhere/python -m scanfire run"
    assert typed("a_notebook.py") == "scanfire run"


def test_a_parser_is_called_as_it_was_typed(typed, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["/lib/scanfire/__main__.py"])
    with pytest.raises(SystemExit):
        CommandParser(prog="cross_validate.py", usage="%(prog)s NAME").parse_args(["--help"])
    assert "-m scanfire cv NAME" in capsys.readouterr().out
