from __future__ import annotations

import pytest

from experiments.reproduce import main


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: ZIP"),
        (["absent.zip"], "no package at absent.zip"),
        (["absent.zip", "--data.rot", "x"], "did you mean --data.root"),
        (["absent.zip", "--seed", "1"], "unrecognized arguments"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert message in err
    assert err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
