"""The audit before a training: what it says, what it stops, what is left of it."""

from __future__ import annotations

import ast
import json
import re
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from datasets import audit
from datasets.audit import Finding
from datasets.errors import UsageError
from experiments.analysis.cohort_audit import (
    audit_summary,
    audit_table,
    check_audit,
    read_audit,
    write_audit,
)
from experiments.config import FINDINGS, load_config, write_yaml
from experiments.run import main
from experiments.runs import Experiment

pytestmark = pytest.mark.slow

WARNED = Finding("missingness:ALB", "warn", 0.8, "missingness of ALB predicts it", (0.7, 0.9))
REFUSED = Finding("label_leakage:stage", "refuse", 1.0, "stage is the label", (0.9, 1.0))
COUNTED = Finding("duplicates:samples", "note", 12, "12 scans")


@pytest.fixture
def leaking_dir(cohort_dir, tmp_path):
    """The small cohort, in which sex is the label and ages of cases are missing."""
    root = tmp_path / "leaking"
    shutil.copytree(cohort_dir, root)
    samples = pd.read_csv(root / "samples.csv")
    is_case = samples["label"] == "case"
    samples["sex"] = np.where(is_case, "M", "F")
    samples["age"] = samples["age"].mask(is_case)
    samples.to_csv(root / "samples.csv", index=False)
    return root


@pytest.fixture
def config_file(settings, leaking_dir, tmp_path):
    settings["report"]["enabled"] = False
    settings["data"]["root"] = str(leaking_dir)
    settings["trainer"]["max_epochs"] = 1
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    return path


def test_what_is_the_label_is_not_trained_on(config_file, tmp_path, capsys):
    assert main([str(config_file)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1
    assert "sex is the label in another form" in error
    assert "--accept label_leakage:sex" in error
    assert not (tmp_path / "runs").exists()


def test_what_is_accepted_is_trained_on_and_recorded(config_file, tmp_path, capsys):
    assert main([str(config_file), "--accept", "label_leakage:sex"]) == 0
    out = capsys.readouterr().out
    assert "label_leakage:sex (accepted)" in out
    # However wide the terminal is.
    assert "missingness of age predicts the label: missing in 100% of case" in " ".join(out.split())
    run_dir = tmp_path / "runs" / "small"
    assert load_config(str(run_dir / "config.yaml")).audit.accept == ["label_leakage:sex"]
    found = {one.name: one for one in read_audit(run_dir)}
    assert found["label_leakage:sex"].accepted
    assert not found["missingness:age"].accepted
    card = (run_dir / "model_card.md").read_text()
    assert re.search(r"\| refuse, accepted \| 1[^|]* \| sex is the label in another form", card)
    assert "| warn | " in card
    limits = card.partition("## Limits")[2]
    assert "sex is the label in another form" in limits
    assert "(it was accepted)" in limits
    assert "missingness of age predicts the label" in limits


def test_every_finding_of_the_checks_can_be_accepted():
    found = set()
    for file in Path(audit.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if not isinstance(node, ast.Call) or "inding" not in ast.unparse(node.func):
                continue
            for first in node.args[:1]:
                text = first.values[0] if isinstance(first, ast.JoinedStr) else first
                if isinstance(text, ast.Constant):
                    found.add(str(text.value).partition(":")[0])
    assert {"order", "label_leakage", "transforms"} <= found
    assert found <= set(FINDINGS)


def test_accepting_adds_to_what_the_file_accepts(config_file, settings, tmp_path):
    settings["audit"] = {"accept": ["order"]}
    config_file.write_text(write_yaml(settings))
    assert main([str(config_file), "--accept", "label_leakage:sex"]) == 0
    config = load_config(str(tmp_path / "runs" / "small" / "config.yaml"))
    assert config.audit.accept == ["order", "label_leakage:sex"]


def test_an_audit_turned_off_stops_and_writes_nothing(config_file, tmp_path, capsys):
    assert main([str(config_file), "--audit.enabled", "false"]) == 0
    assert "\naudit " not in capsys.readouterr().out
    assert not (tmp_path / "runs" / "small" / "audit.json").exists()
    card = (tmp_path / "runs" / "small" / "model_card.md").read_text()
    assert "The data were not audited before the training." in card


def test_a_clean_run_says_so(make_config):
    experiment = Experiment(make_config())
    experiment.setup()
    assert {one.level for one in experiment.audit} == {"note"}
    assert read_audit(experiment.run_dir) == experiment.audit


def test_a_resumed_run_reads_its_audit_and_does_not_look_again(make_config, monkeypatch):
    first = Experiment(make_config(**{"trainer.max_epochs": 1}))
    first.setup()
    first.train()

    def look(*arguments):
        raise AssertionError("a resumed run was audited again")

    monkeypatch.setattr("experiments.runs.experiment.audit_cohort", look)
    resumed = Experiment(make_config(**{"trainer.max_epochs": 2}), first.run_dir)
    resumed.setup()
    assert resumed.audit == first.audit != []


def test_a_run_from_before_there_were_audits_has_no_findings(tmp_path):
    assert read_audit(tmp_path) == []


def test_findings_are_read_back_as_they_were_written(tmp_path):
    write_audit([REFUSED, WARNED, COUNTED], tmp_path)
    assert read_audit(tmp_path) == [REFUSED, WARNED, COUNTED]
    assert json.loads((tmp_path / "audit.json").read_text())["findings"][1]["number"] == 0.8


def test_only_what_refuses_and_is_not_accepted_stops():
    check_audit([WARNED, COUNTED])
    check_audit([Finding("label_leakage:stage", "refuse", 1.0, "", accepted=True)])
    other = Finding("groups:sides", "refuse", 2, "2 groups")
    with pytest.raises(
        UsageError, match=r"--accept label_leakage:stage \(it also refuses groups:sides"
    ):
        check_audit([REFUSED, other, WARNED])


def test_the_table_has_levels_numbers_and_sentences(monkeypatch):
    monkeypatch.setenv("COLUMNS", "70")
    long = Finding("order", "warn", 0.7, "word " * 30, (0.6, 0.8))
    lines = list(audit_table([REFUSED, WARNED, long, COUNTED]))
    assert lines[1].split(maxsplit=1) == ["refuse", "1.00 (0.90 to 1.00)   label_leakage:stage"]
    assert lines[2].strip() == "stage is the label"
    assert lines[-2].split() == ["note", "12", "duplicates:samples"]
    assert max(map(len, lines)) <= 70
    assert list(audit_table([])) == []
    assert audit_summary([REFUSED, WARNED, long]) == "1 refusal, 2 warnings"
