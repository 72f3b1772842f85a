"""The export's command line, and its file in a program of onnxruntime and NumPy alone."""

from __future__ import annotations

import csv
import io
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.export import main
from experiments.exporting import export_model, load_trained

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guide" / "export.md"
OWN = "tests.experiments.test_export."
pytestmark = pytest.mark.slow


def modules_after(script, *words, cwd):
    """What a script prints in a process of its own, and the packages that it imported."""
    code = (
        "import runpy, sys; sys.argv = sys.argv[1:]; sys.path.pop(0)\n"
        "runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "print(*{m.partition('.')[0] for m in sys.modules}, file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, str(script), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
    assert done.returncode == 0, done.stderr
    return done.stdout, set(done.stderr.splitlines()[-1].split())


def guide_program():
    (block,) = re.findall(r"^```python\n(.*?)^```$", GUIDE.read_text("utf-8"), re.M | re.S)
    return block


def test_the_guides_program_predicts_as_the_run_did(treated_run, tmp_path, capsys):
    out = tmp_path / "model.onnx"
    assert main([str(treated_run / "runs" / "small"), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "of its test set; run by onnxruntime without torch" in printed
    (tmp_path / "predict_alone.py").write_text(guide_program())
    text, imported = modules_after(
        tmp_path / "predict_alone.py", out, treated_run / "cohort", cwd=tmp_path
    )
    assert "onnxruntime" in imported
    assert not imported & {"torch", "pandas", "scipy", "datasets", "models", "experiments"}
    found = {row["sample_id"]: row for row in csv.DictReader(io.StringIO(text))}
    known = pd.read_csv(treated_run / "runs" / "small" / "predictions.csv")
    assert len(found) == 40
    assert len(known) > 4
    assert np.ptp(known["prob_case"]) > 0.05
    for row in known.itertuples():
        assert float(found[row.sample_id]["case"]) == pytest.approx(row.prob_case, abs=1e-5)


def test_the_package_is_exported_and_says_that_rows_are_random(treated_run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(treated_run / "runs" / "small" / "small.zip", tmp_path)
    exported = export_model(load_trained("small.zip"), "onnx")
    assert exported.file == Path("small.onnx")
    assert exported.rows.startswith("7 random samples: the cohort cannot be read (")
    about = json.loads(exported.description.read_text())
    assert about["parity"]["rows"] == exported.rows
    assert [member["name"] for member in about["members"]] == ["linear model", "network"]
    temperature = json.loads((treated_run / "runs" / "small" / "metrics.json").read_text())["test"]
    assert about["temperature"] == temperature["calibration"]["temperature"]


def test_an_existing_file_is_left_alone(treated_run, tmp_path, capsys):
    out = tmp_path / "model.pt2"
    words = [str(treated_run / "runs" / "small"), "--format", "torch", "--out", str(out)]
    out.with_name("model.pt2.json").write_text("mine")
    assert main(words) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["model.pt2.json"]
    assert out.with_name("model.pt2.json").read_text() == "mine"


def test_a_damaged_table_of_the_split_is_one_line(treated_run, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(treated_run / "runs" / "small", run)
    (run / "splits.csv").write_text("sample_id,group\nS1,g1\n")
    assert main([str(run), "--format", "safetensors", "--out", str(tmp_path / "out.st")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "splits.csv is not as a run writes it" in line
    assert not (tmp_path / "out.st").exists()


def test_mistakes_are_one_line(treated_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    for words, told in (
        (["nothing"], "no run, package or cross-validation 'nothing'"),
        ([str(treated_run / "cohort")], "holds no config.yaml"),
        (
            [str(treated_run / "runs" / "small"), "--format", "torch", "--out", "m.onnx"],
            "--out m.onnx: .onnx is the suffix of --format onnx, not torch",
        ),
        (["a", "--format", "onx"], "'onx' is unknown; did you mean 'onnx'? (choices: onnx, "),
    ):
        assert main(words) == 2
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    assert main([str(treated_run / "runs" / "small"), "--out", "model.onnx"]) == 2
    assert "needs onnxscript: pip install 'scanfire[onnx]'" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []
