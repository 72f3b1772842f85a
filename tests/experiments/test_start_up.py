"""Help and mistakes are shown at once: nothing that takes seconds to import is imported first."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SLOW = ["torch", "sklearn", "pandas", "scipy", "ignite", "captum", "plotly"]
CODE = f"""
import sys
from runpy import run_path
del sys.argv[0]
try:
    run_path(sys.argv[0], run_name="__main__")
finally:
    print("imported:", *(name for name in {SLOW} if name in sys.modules))
"""
KEY, VALUE = ["--trainer.max_epoch", "3"], ["--trainer.precision", "fp17"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("run", ["--help"], "usage: run.py"),
        ("run", ["tft_baselin"], "did you mean 'tft_baseline'?"),
        ("run", ["tft_baseline", *KEY], "did you mean 'trainer.max_epochs'?"),
        ("run", ["tft_baseline", *VALUE], "did you mean 'fp16'?"),
        ("run", ["tft_baseline", "--resum"], "did you mean --resume?"),
        ("compare", ["--help"], "usage: compare.py"),
        ("compare", ["tft_baseline", *KEY], "did you mean 'trainer.max_epochs'?"),
        ("cross_validate", ["--help"], "usage: cross_validate.py"),
        ("cross_validate", ["tft_baseline", *KEY], "did you mean 'trainer.max_epochs'?"),
        ("audit_cohort", ["--help"], "usage: audit_cohort.py"),
        ("export", ["--help"], "usage: export.py"),
        ("export", ["run", "--fromat", "onnx"], "did you mean --format?"),
        ("audit_cohort", ["tft_baseline", *VALUE], "did you mean 'fp16'?"),
    ],
)
def test_help_and_mistakes_wait_for_no_slow_import(script, arguments, expected):
    file = str(ROOT / "experiments" / f"{script}.py")
    done = subprocess.run(
        [sys.executable, "-c", CODE, file, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert expected in done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
