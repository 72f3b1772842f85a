"""What is checked is the same by hand, before a commit and in CI."""

from __future__ import annotations

from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def commands_of_lint() -> list[str]:
    rule = (ROOT / "Makefile").read_text("utf-8").split("\nlint:")[1].split("\n\n")[0]
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in rule.splitlines()[1:]]


def test_the_hooks_are_those_of_make_lint():
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text("utf-8"))["repos"]
    assert local["repo"] == "local"
    hooks = [hook["entry"] for hook in local["hooks"]]
    assert hooks == [command.removesuffix(" .") for command in commands_of_lint()]
    assert len(hooks) == 4


def test_the_workflow_runs_what_ci_runs():
    workflow = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8"))
    (job,) = workflow["jobs"].values()
    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    script = (ROOT / ".ci" / "run").read_text("utf-8")
    assert "make lint" in script
    assert "make test" in script
