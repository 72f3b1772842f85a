from __future__ import annotations

import pytest

from datasets.errors import UsageError
from experiments.command_line import read_overrides, run_command


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


def test_overrides_are_read_in_either_spelling():
    words = ["--seed", "3", "--optimizer.lr=3e-4"]
    assert read_overrides(words) == [("seed", "3"), ("optimizer.lr", "3e-4")]


@pytest.mark.parametrize("words", [["seed", "3"], ["--seed"]])
def test_what_is_no_override_is_refused(words):
    with pytest.raises(UsageError):
        read_overrides(words)
