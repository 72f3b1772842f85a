"""The command line, as a person uses it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pandas as pd
import pytest

from engine.checkpointing import load_checkpoint
from engine.reporting import read_log
from experiments.analysis import TestAnalysis
from experiments.config import read_yaml, write_yaml
from experiments.run import main
from experiments.runs import Experiment, print_results
from tests.experiments.config.test_source import PLAIN_FILE
from tests.forked import ERR, OUT, start_forked

RUN_SCRIPT = str(Path(__file__).resolve().parents[2] / "experiments" / "run.py")


@pytest.fixture
def config_file(settings, tmp_path) -> Path:
    settings["report"]["enabled"] = False
    path = tmp_path / "small.yaml"
    path.write_text(write_yaml(settings))
    return path


def run_script(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, RUN_SCRIPT, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )


@pytest.mark.slow
def test_a_whole_run_from_another_folder_names_the_page(config_file, tmp_path):
    done = run_script(str(config_file), "--report.enabled", "true", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    page = Path(done.stdout.strip().splitlines()[-1].split(maxsplit=1)[1])
    assert page.is_file()
    assert page.name == "index.html"
    for text in (
        done.stdout,
        *((page.parent.parent / name).read_text() for name in ("summary.md", "model_card.md")),
        page.read_text(),
    ):
        assert re.search(r"[Pp]ositive class: case \(sensitivity, recall, precision, ", text)
    assert re.search(r"^audit .*\d notes? \(.*counts:test.*\)$", done.stdout, re.MULTILINE)
    assert "60 samples" in done.stdout
    assert "epoch 2/2" in done.stdout


@pytest.mark.slow
def test_results_include_threshold_and_temperature(config_file, capsys):
    rule = ["--report.threshold.rule", "recall", "--report.threshold.demand", "0.8"]
    assert main([str(config_file), *rule, "--model", "{name: tabular_only}"]) == 0
    out = capsys.readouterr().out
    told = r"at the threshold [\d.]+ \(recall >= 0.8 on validation\): test sensitivity [\d.]+, spec"
    assert re.search(told, out), out
    assert re.search(r"^temperature [\d.]+: the ", out, re.MULTILINE), out


def test_an_unknown_threshold_rule_is_refused(config_file, capsys):
    assert main([str(config_file), "--report.threshold.rule", "yuden"]) == 2
    error = capsys.readouterr().err
    assert "report.threshold.rule: " in error
    assert "did you mean 'youden'" in error
    assert error.count("\n") == 1


def test_an_unknown_key_is_one_line_on_stderr_and_exit_code_2(config_file, capsys):
    assert main([str(config_file), "--trainer.epochs", "3"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("\n") == 1
    assert "did you mean 'trainer.max_epochs'" in shown.err


def test_print_config_gives_a_file_that_loads_to_the_same(config_file, capsys, tmp_path):
    assert main([str(config_file), "--print-config", "--optimizer.lr=2e-3"]) == 0
    text = capsys.readouterr().out
    assert read_yaml(text, "printed")["optimizer"]["lr"] == 2e-3
    again = tmp_path / "again.yaml"
    again.write_text(text)
    assert main([str(again), "--print-config"]) == 0
    assert capsys.readouterr().out == text


@pytest.mark.slow
def test_saved_settings_give_the_same_run(config_file, settings):
    assert main([str(config_file)]) == 0
    runs = Path(settings["runs_dir"])
    saved = str(runs / "small" / "config.yaml")
    assert main([saved]) == 0
    for name in ("config.yaml", "resolved.yaml", "splits.csv", "predictions.csv"):
        assert (runs / "small-2" / name).read_bytes() == (runs / "small" / name).read_bytes()
    quick = ["--seed", "2", "--trainer.max_epochs", "1", "--audit.enabled", "false"]
    assert main([saved, "--exp_name", "other", *quick, "--checkpoint.monitor", "val/loss"]) == 0
    assert main([str(config_file), "--exp_name", "fresh", *quick]) == 0
    splits = [(runs / name / "splits.csv").read_bytes() for name in ("other", "fresh", "small")]
    assert splits[0] == splits[1] != splits[2]
    resolved = read_yaml((runs / "other" / "resolved.yaml").read_text(), "resolved")
    assert resolved["checkpoint"]["mode"] == "min"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--report.resamples", "20"], "report.resamples: an interval takes at least 40"),
        (["--report.attribution.steps", "100000"], "report.attribution.steps: "),
        (["--optimizer.lr", ".inf"], "optimizer.lr: "),
        (["--data.root", ""], "--data.root is empty"),
        (["--resume", ""], "--resume: a path was expected"),
        (["--resume", "x" * 300], "--resume: the name 'x.* has 300 bytes"),
        (["--dryrun"], "--dryrun is not known; did you mean --dry-run?"),
        (
            ["--loss", "tft", "--loss.params", "{label_smoothing: 2}"],
            "label_smoothing must be 0 to 1",
        ),
        (
            ["--lr_scheduler.params.min_lr", "-1"],
            "min_lr: a number at least 0 was expected",
        ),
    ],
)
def test_what_can_be_refused_is_refused_by_a_dry_run(config_file, settings, capsys, words, message):
    assert main([str(config_file), *words, "--dry-run"]) == 2
    shown = capsys.readouterr().err
    assert shown.count("\n") == 1
    assert re.search(message, shown), shown
    assert not Path(settings["runs_dir"]).exists()


@pytest.mark.slow
def test_a_name_that_is_a_number_is_a_name(
    config_file, settings, cohort_dir, tmp_path, monkeypatch
):
    shutil.copytree(cohort_dir, tmp_path / "2024")
    monkeypatch.chdir(tmp_path)
    assert main([str(config_file), "--data.root", "2024", "--exp_name", "010"]) == 0
    saved = Path(settings["runs_dir"]) / "010" / "config.yaml"
    assert read_yaml(saved.read_text(), "saved")["data"]["root"] == str(tmp_path / "2024")
    monkeypatch.chdir(cohort_dir)
    assert main([str(saved), "--dry-run"]) == 0


@pytest.mark.slow
def test_an_own_cohort_needs_no_column_named(cohort_dir, tmp_path, capsys):
    root = tmp_path / "mine"
    shutil.copytree(cohort_dir, root)
    samples = pd.read_csv(root / "samples.csv", dtype=str, keep_default_na=False)
    samples = samples.drop(columns=["CRP", "ALT", "AST", "GGT", "albumin"])
    samples.to_csv(root / "samples.csv", index=False)
    (root / "cohort.yaml").write_text("roles: {numeric: [age, BMI], categorical: [sex]}\n")
    for name in ("tft_baseline", "tabular_only", "spectra_only"):
        words = [name, "--data.root", str(root), "--trainer.device", "cpu", "--dry-run"]
        assert main([*words, "--runs_dir", str(tmp_path / "runs")]) == 0, capsys.readouterr().err


def test_a_dry_run_checks_everything_and_leaves_nothing(config_file, settings, capsys):
    assert main([str(config_file), "--dry-run"]) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert not Path(settings["runs_dir"]).exists()


def test_what_a_transform_is_not_made_for_is_printed_once(config_file, capsys):
    words = [str(config_file), "--dry-run", "--data.transforms", "[snv, sqrt]"]
    for more in (["--accept", "transforms:sqrt"], ["--audit.enabled", "false"]):
        assert main([*words, *more]) == 0
        out = " ".join(capsys.readouterr().out.split())
        assert out.count("are negative and become 0") == 1


@pytest.mark.slow
def test_a_finished_run_continues_with_more_epochs_only(config_file, capsys):
    assert main([str(config_file)]) == 0
    capsys.readouterr()
    assert main([str(config_file), "--resume", "small"]) == 0
    assert "is finished" in capsys.readouterr().out
    assert main([str(config_file), "--resume", "small", "--trainer.max_epochs", "3"]) == 0
    out = capsys.readouterr().out
    assert "epoch 3/3" in out
    assert "epoch 2/3" not in out


@pytest.mark.slow
def test_a_plain_file_without_a_data_section_does_what_it_says(tmp_path, capsys):
    path = tmp_path / "plain.yaml"
    path.write_text(PLAIN_FILE)
    small = ["--data.simulated.n_samples", "60", "--data.cache_dir", str(tmp_path / "cache")]
    small += ["--trainer.batch_size", "32"]
    small += ["--trainer.max_epochs", "3", "--runs_dir", str(tmp_path / "runs")]
    small += ["--report.enabled", "false", "--baselines.enabled", "false"]
    assert main([str(path), *small, "--trainer.device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "fp16" in out
    assert "bf16" in out
    assert "warm-up of 1000 steps is longer than the run" in out
    rows = read_log(tmp_path / "runs" / "plain" / "log.jsonl")
    last = [row for row in rows if row["event"] == "epoch"][-1]
    assert last["optimizer_step"] == 3  # two batches an epoch, both in one window
    assert 0 < last["metrics"]["lr"] < 3e-4
    checkpoints = {p.name for p in (tmp_path / "runs" / "plain" / "checkpoints").iterdir()}
    assert {"last.pt", "best.pt"} < checkpoints


# A user's module: Ctrl-C is pressed in the first step of the second epoch.
CTRL_C = """
import os
import signal

from ignite.engine import Events

class CtrlC:
    def attach(self, trainer):
        trainer.add_event_handler(Events.ITERATION_STARTED(once=4), self)

    def __call__(self):
        os.kill(os.getpid(), signal.SIGINT)
"""


def assert_resume_auto_finishes(config_file, run_dir, least):
    stopped = load_checkpoint(run_dir / "checkpoints" / "last.pt")["states"]["trainer"]["iteration"]
    assert stopped >= least
    epochs = str(stopped // 3 + 1)
    resumed = [str(config_file), "--resume", "auto", "--trainer.max_epochs", epochs]
    assert main(resumed) == 0
    assert "run_finished" in (run_dir / "log.jsonl").read_text()


@pytest.mark.slow
def test_a_run_ended_by_sigterm_is_resumed(config_file, settings, tmp_path):
    process = start_forked(tmp_path, main, [str(config_file), "--trainer.max_epochs", "1000"])
    assert process.pid is not None
    try:
        while not re.search(r"^epoch +2/", (tmp_path / OUT).read_text(), re.MULTILINE):
            process.join(0.02)
            assert process.is_alive(), (tmp_path / ERR).read_text()
        os.kill(process.pid, signal.SIGTERM)
        process.join(60)
    finally:
        process.kill()
    out, err = (tmp_path / OUT).read_text(), (tmp_path / ERR).read_text()
    assert process.exitcode == 143, err
    assert "Traceback" not in err
    assert re.search("to continue: scanfire run .*config.yaml --resume ", out)
    assert_resume_auto_finishes(config_file, Path(settings["runs_dir"]) / "small", 6)  # two epochs


@pytest.mark.slow
def test_a_run_ended_by_ctrl_c_is_resumed(config_file, settings, tmp_path, monkeypatch, capsys):
    (tmp_path / "ctrl_c.py").write_text(CTRL_C)
    monkeypatch.delitem(sys.modules, "ctrl_c", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    handlers = ["--handlers", "[{name: ctrl_c.CtrlC}]"]
    assert main([str(config_file), "--trainer.max_epochs", "1000", *handlers]) == 130
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    assert re.search("to continue: scanfire run .*config.yaml --resume ", shown.out)
    assert_resume_auto_finishes(config_file, Path(settings["runs_dir"]) / "small", 4)


def test_resume_auto_without_an_unfinished_run_is_refused(config_file, capsys):
    assert main([str(config_file), "--resume", "auto"]) == 2
    assert "no unfinished run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--seed"], "--seed needs a value"),
        (["seed", "3"], "'seed' is not understood"),
        (["--data.labels", "{a: 1"], "--data.labels, line 1"),
    ],
)
def test_words_that_are_no_option_are_refused(config_file, capsys, arguments, message):
    assert main([str(config_file), *arguments]) == 2
    assert message in capsys.readouterr().err


def change_csv(name, change):
    def damage(root: Path) -> None:
        table = pd.read_csv(root / name, dtype=str, keep_default_na=False)
        change(table).to_csv(root / name, index=False)

    return damage


def put(column, row, value):
    def change(table):
        table.loc[row, column] = value
        return table

    return change


def damage_spectra(root: Path) -> None:
    spectra = np.load(root / "spectra.npy")
    spectra[5, 7] = np.nan
    np.save(root / "spectra.npy", spectra)


def shorten_axis(root: Path) -> None:
    np.save(root / "axis.npy", np.load(root / "axis.npy")[:-1])


def one_group_a_class(table):
    table["group"] = table["label"]
    return table


BAD_COHORTS = {
    "missing file": (lambda root: (root / "scans.csv").unlink(), [], "scans.csv"),
    "missing folder": (shutil.rmtree, [], "does not exist|no folder|no such"),
    "missing column": (None, ["--data.numeric", "[agee]"], "did you mean 'age'"),
    "non-numeric covariate": (change_csv("samples.csv", put("age", 3, "old")), [], "'?old'?"),
    "one class": (None, ["--data.labels", "{case: 0}"], "leaves 1 class, at least 2"),
    "unknown label": (None, ["--data.labels", "{case: 1, contrl: 0}"], "did you mean 'control'"),
    "axis length": (shorten_axis, [], "127.*128|128.*127"),
    "NaN in spectra": (damage_spectra, [], "NaN|nan|not finite|non-finite"),
    "duplicate sample": (
        change_csv("samples.csv", lambda t: pd.concat([t, t.iloc[[4]]])),
        [],
        "twice|duplicate|stands",
    ),
    "scan of nobody": (change_csv("scans.csv", put("sample_id", 2, "ghost")), [], "ghost"),
    "groups too few": (change_csv("samples.csv", one_group_a_class), [], "group"),
}


@pytest.mark.parametrize("case", sorted(BAD_COHORTS))
def test_a_bad_cohort_is_one_line_and_exit_code_2(
    case, config_file, settings, cohort_dir, tmp_path, capsys
):
    damage, arguments, message = BAD_COHORTS[case]
    root = tmp_path / "damaged"
    shutil.copytree(cohort_dir, root)
    if damage:
        damage(root)
    code = main([str(config_file), "--data.root", str(root), "--data.group", "group", *arguments])
    shown = capsys.readouterr()
    assert code == 2
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1
    assert re.search(message, shown.err), shown.err
    assert not Path(settings["runs_dir"]).exists()


def test_a_group_forced_onto_two_sides_is_refused(config_file, cohort_dir, tmp_path, capsys):
    samples = pd.read_csv(cohort_dir / "samples.csv", dtype=str)
    samples.loc[samples.index[:4], "group"] = "together"
    root = tmp_path / "cohort"
    shutil.copytree(cohort_dir, root)
    samples.to_csv(root / "samples.csv", index=False)
    splits = samples[["sample_id", "group"]].copy()
    splits["split"] = ["train", "test", "val"] * (len(splits) // 3)
    splits.to_csv(tmp_path / "splits.csv", index=False)
    arguments = ["--data.root", str(root), "--data.split.file", str(tmp_path / "splits.csv")]
    assert main([str(config_file), *arguments]) == 2
    assert "together" in capsys.readouterr().err


@pytest.mark.slow
def test_an_interrupt_outside_the_training_leaves_with_130(config_file, monkeypatch, capsys):
    def interrupted(self):
        raise KeyboardInterrupt

    monkeypatch.setattr("experiments.runs.experiment.Experiment.test", interrupted)
    assert main([str(config_file)]) == 130
    assert "--resume" in capsys.readouterr().err


@pytest.mark.slow
def test_a_bug_still_shows_its_traceback(config_file, monkeypatch):
    monkeypatch.setattr("experiments.runs.experiment.Experiment.train", lambda self: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([str(config_file)])


@pytest.mark.parametrize("unit", [1e-9, 1e-4, 1.0, 1e9, 1e30])
def test_columns_of_results_stay_apart_in_any_unit(unit, capsys):
    metrics = {"mae": 1.2345 * unit, "mse": 987654.321 * unit**2, "r2": -28.1}
    cohort = SimpleNamespace(task="regression", class_names=["conc"])
    told = SimpleNamespace(
        results={"val": metrics, "test": metrics},
        intervals={},
        findings=TestAnalysis(),
        leaderboard=None,
        selected=None,
        member_weights={},
        data=SimpleNamespace(cohort=cohort),
    )
    print_results(cast(Experiment, told))
    head, *rows = capsys.readouterr().out.splitlines()
    assert head.split() == ["validation", "test"]
    for row, (name, value) in zip(rows, metrics.items(), strict=True):
        first, val, test = row.split()
        assert (first, val) == (name, test)
        assert float(test) == pytest.approx(value, rel=1e-3)
