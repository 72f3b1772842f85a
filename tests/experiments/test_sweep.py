from __future__ import annotations

import sys

import pytest

from experiments.sweep import main


def line_of(capsys):
    err = capsys.readouterr().err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    return err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tft_baseline", "--trials", "3"], "required: --space"),
        (["tft_baseline", "--space", "s.yaml"], "required: --trials"),
        (["tft_baseline", "--space", "s.yaml", "--trials", "0"], "a whole number from 1 on"),
        (["tft_baseline", "--space", "s.yaml", "--trials", "2", "--folds", "1"], "from 2 on"),
        (["tft_baselin", "--space", "s.yaml", "--trials", "2"], "did you mean 'tft_baseline'"),
        (["tft_baseline", "--spac", "s.yaml", "--trials", "2"], "--space"),
        (["tft_baseline", "--space", "s.yaml", "--trials", "2"], "cannot read s.yaml"),
        (
            ["tft_baseline", "--space", "s.yaml", "--trials", "2", "--optimizer.lrr", "1"],
            "did you mean 'optimizer.lr'",
        ),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    assert message in line_of(capsys)
    assert list(tmp_path.iterdir()) == []


def test_without_optuna_its_install_command_is_named(capsys, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "s.yaml").write_text("optimizer.lr: [1e-3, 1e-4]")
    assert main(["tft_baseline", "--space", "s.yaml", "--trials", "1"]) == 2
    assert "pip install 'scanfire[sweep]'" in line_of(capsys)
