"""The audit's command line, as a person uses it."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from experiments.audit_cohort import main

SCRIPT = str(Path(__file__).resolve().parents[2] / "experiments" / "audit_cohort.py")
LABELS = ["--data.labels", "{control: 0, case: 1}"]


@pytest.fixture
def change_samples(cohort_dir, tmp_path):
    """Copy the small cohort with its samples changed: ``change_samples(change)``."""

    def copy(change):
        root = tmp_path / "changed"
        shutil.copytree(cohort_dir, root)
        samples = pd.read_csv(root / "samples.csv")
        change(samples)
        samples.to_csv(root / "samples.csv", index=False)
        return root

    return copy


def make_sex_the_label(samples):
    samples["sex"] = np.where(samples["label"] == "case", "M", "F")


@pytest.mark.slow
def test_a_folder_alone_is_audited_from_another_folder(cohort_dir, tmp_path):
    done = subprocess.run(
        [sys.executable, SCRIPT, str(cohort_dir)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "60 samples" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("notes")
    assert list(tmp_path.iterdir()) == []


def test_what_refuses_leaves_with_2_and_is_written_down(change_samples, tmp_path, capsys):
    root = change_samples(make_sex_the_label)
    assert main([str(root), *LABELS, "--out", str(tmp_path / "new" / "out")]) == 2
    out = capsys.readouterr().out
    assert "refuse  1.00" in out
    assert "1 refusal" in out
    written = json.loads((tmp_path / "new" / "out" / "audit.json").read_text())["findings"]
    assert (written[0]["name"], written[0]["level"]) == ("label_leakage:sex", "refuse")


def test_what_is_accepted_leaves_with_0(change_samples, capsys):
    root = change_samples(make_sex_the_label)
    assert main([str(root), *LABELS, "--accept", "label_leakage:sex"]) == 0
    assert "label_leakage:sex (accepted)" in capsys.readouterr().out


def test_a_column_the_model_is_not_given_is_no_label_leakage(change_samples):
    root = change_samples(make_sex_the_label)
    assert main([str(root), *LABELS, "--data.categorical", "[]"]) == 0


def test_a_configuration_is_audited_by_name_or_by_file(cohort_dir, tmp_path, capsys):
    small = ["--data.simulated.n_samples", "60", "--data.cache_dir", str(tmp_path / "cache")]
    assert main(["tft_baseline", *small]) == 0
    file = tmp_path / "mine.yaml"
    file.write_text(f"data: {{root: {cohort_dir}, numeric: [age]}}\n")
    assert main([str(file)]) == 0
    assert "covariates: age, sex" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--accept", "marker:GTG"], "there is no finding 'marker:GTG'"),
        (["--data.numeric", "[agee]"], "did you mean 'age'"),
        (["--data.grup", "x"], "did you mean 'data.group'"),
        (["--data.split.file", "none.csv"], "no file none.csv"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_2(cohort_dir, capsys, arguments, message):
    assert main([str(cohort_dir), *arguments]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert message in shown.err


def test_a_misspelt_cohort_gets_the_nearest(cohort_dir, monkeypatch, capsys):
    monkeypatch.chdir(cohort_dir.parent)
    assert main([f"{cohort_dir.name}x"]) == 2
    assert f"did you mean '{cohort_dir.name}'?" in capsys.readouterr().err


def test_neither_a_folder_nor_a_configuration_is_refused(capsys):
    assert main(["tft_baselin"]) == 2
    assert "did you mean 'tft_baseline'" in capsys.readouterr().err


def test_a_group_that_a_split_file_tears_apart_is_refused(cohort_dir, change_samples, capsys):
    def join(samples):
        samples.loc[:3, "group"] = "together"
        splits = samples[["sample_id", "group"]].copy()
        splits["split"] = ["train", "test", "val"] * (len(splits) // 3)
        splits.to_csv(cohort_dir.parent / "torn.csv", index=False)

    root = change_samples(join)
    assert main([str(root), "--data.split.file", str(cohort_dir.parent / "torn.csv")]) == 2
    assert "together" in capsys.readouterr().err


def test_a_cohort_that_cannot_be_split_is_audited_all_the_same(change_samples, capsys):
    root = change_samples(lambda samples: samples.__setitem__("plate", samples["label"]))
    assert main([str(root), *LABELS, "--data.group", "plate"]) == 0
    out = capsys.readouterr().out
    assert "batch:plate" in out
    assert "splits were not checked: class 'control' stands in only 1 group" in " ".join(
        out.split()
    )
