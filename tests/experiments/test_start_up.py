"""Help and mistakes are shown at once: nothing that takes seconds to import is imported first."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.command_line import COMMANDS

ROOT = Path(__file__).resolve().parents[2]
SLOW = ["torch", "sklearn", "pandas", "scipy", "ignite", "captum", "plotly"]
# What checks settings; help does without.
SCHEMA = ["pydantic", "numpy"]
# Of the CPU; a tenth is Python itself.
MOST_SECONDS = 0.5
CODE = f"""
import sys
from runpy import run_path
del sys.argv[0]
try:
    run_path(sys.argv[0], run_name="__main__")
finally:
    print("imported:", *(name for name in {[*SLOW, *SCHEMA]} if name in sys.modules))
"""
KEY, VALUE = ["--trainer.max_epoch", "3"], ["--trainer.precision", "fp17"]


def start(script: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a script, and then print what it has imported."""
    return subprocess.run(
        [sys.executable, "-c", CODE, str(ROOT / script), *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("script", "arguments", "expected"),
    [
        ("run", ["tft_baselin"], "did you mean 'tft_baseline'?"),
        ("run", ["tft_baseline", *KEY], "did you mean 'trainer.max_epochs'?"),
        ("run", ["tft_baseline", *VALUE], "did you mean 'fp16'?"),
        ("run", ["tft_baseline", "--resum"], "did you mean --resume?"),
        ("compare", ["tft_baseline", *KEY], "did you mean 'trainer.max_epochs'?"),
        ("cross_validate", ["tft_baseline", *KEY], "did you mean 'trainer.max_epochs'?"),
        ("audit_cohort", ["tft_baseline", *VALUE], "did you mean 'fp16'?"),
        ("export", ["run", "--fromat", "onnx"], "did you mean --format?"),
    ],
)
def test_mistakes_wait_for_no_slow_import(script, arguments, expected):
    done = start(f"experiments/{script}.py", *arguments)
    assert expected in done.stdout + done.stderr
    assert not {*SLOW} & {*done.stdout.splitlines()[-1].split()}


@pytest.mark.slow
@pytest.mark.parametrize("script", [script for script, _ in COMMANDS.values()])
def test_help_of_a_script_imports_nothing_slow(script):
    done = start(f"experiments/{script}", "--help")
    assert f"experiments/{script}" in done.stdout
    assert done.stdout.splitlines()[-1] == "imported:"


@pytest.mark.slow
@pytest.mark.parametrize("command", [[], *([name] for name in COMMANDS)])
def test_help_takes_less_than_half_a_second_of_the_cpu(command):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = start("scanfire/__main__.py", *command, "--help")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert "usage:" in done.stdout, done.stderr
    assert done.stdout.splitlines()[-1] == "imported:"
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < MOST_SECONDS
