"""The importer's command line, on made-up files and on real ones."""

from __future__ import annotations

import io
import os
import re
import shlex
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from datasets.cohort import Cohort
from datasets.importing import RawImport
from experiments.config import load_config
from experiments.import_cohort import main
from experiments.run import main as run_main
from experiments.runs import Experiment
from tests.datasets.readers.raw_files import Spectrum, write_bruker, write_mzml, write_wide_csv
from tests.forked import start_forked

ROOT = Path(__file__).resolve().parents[2]
AXIS = ["--axis", "2000:20000:3"]


def read_tree(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


@pytest.fixture
def wide(tmp_path) -> Path:
    """Twelve samples of two classes."""
    rng = np.random.default_rng(0)
    rows = [(f"S{i:02d}", "ab"[i % 2], *rng.integers(1, 9, 64)) for i in range(12)]
    return write_wide_csv(tmp_path / "wide.csv", range(64), rows, ["label"])


# Real files


def test_bruker_files_import_as_the_independent_conversion(real_data, tmp_path, capsys):
    archive = real_data / "raw_formats" / "species_bruker_flex.tar.gz"
    out = tmp_path / "species"
    assert main([str(archive), str(out), "--format", "bruker", *AXIS, "--licence", "GPL"]) == 0
    assert "32 samples, 96 scans of 6000 points (2000 to 19997)" in capsys.readouterr().out
    ours, theirs = Cohort.read(out), Cohort.read(real_data / "species_maldi")
    np.testing.assert_array_equal(ours.axis, theirs.axis)
    pd.testing.assert_frame_equal(ours.samples, theirs.samples)
    assert len(ours.spectra) == len(theirs.spectra) == 96
    for mine, other in zip(ours.scan_rows, theirs.scan_rows, strict=True):
        np.testing.assert_allclose(ours.spectra[mine], theirs.spectra[other], rtol=1e-6)


@pytest.mark.slow
def test_the_imported_species_are_told_apart_without_an_error(real_data, tmp_path):
    archive = real_data / "raw_formats" / "species_bruker_flex.tar.gz"
    out = tmp_path / "species"
    assert main([str(archive), str(out), "--format", "bruker", *AXIS]) == 0
    changes = {"data.root": out, "runs_dir": tmp_path, "trainer.max_epochs": 15} | {
        "lr_scheduler.warmup_steps": 10,
        "checkpoint.monitor": "val/loss",
    }
    changes |= {"report.enabled": "false", "report.resamples": 0}
    changes |= {"baselines.enabled": "false"}
    config = load_config("species", [(key, str(value)) for key, value in changes.items()])
    experiment = Experiment(config)
    experiment.run()
    assert experiment.results["test"]["accuracy"] == 1.0


@pytest.mark.parametrize(
    ("name", "format", "axis", "scans", "first", "last"),
    [
        ("example.mzML", "mzml", "200:2000:0.1", 2, 200.0, 1999.9),
        ("Example_Continuous.imzML", "imzml", "own", 9, 100.08334, 799.9167),
        ("Example_Continuous.imzML", "imzml", "100:800:1", 9, 100.0, 799.0),
    ],
)
def test_open_formats_import_with_their_readers_scans_and_axes(
    real_data, tmp_path, name, format, axis, scans, first, last
):
    source, out = real_data / "raw_formats" / name, tmp_path / "out"
    assert main([str(source), str(out), "--format", format, "--axis", axis]) == 0
    written = np.load(out / "axis.npy")
    assert len(np.load(out / "spectra.npy")) == scans
    assert (written[0], written[-1]) == pytest.approx((first, last), rel=1e-6)


def test_two_real_spectra_one_rounded_have_mixed_axes(real_data, tmp_path, capsys):
    source = real_data / "raw_formats" / "example.mzML"
    assert main([str(source), str(tmp_path / "out"), "--format", "mzml", "--axis", "own"]) == 2
    assert_one_line(
        capsys, r"mixed axes: in .*spectrum 1 point 0 is 200\.00018\d+, that of .* 0 is"
    )


# What is said, and what comes next


def test_the_summary_names_what_needs_a_look(wide, tmp_path, capsys):
    covariates = tmp_path / "blood.csv"
    lines = [f"S{i:02d},{50 + i},{i // 2}" for i in range(10)] + ["X1,1,1"]
    covariates.write_text("\n".join(["sample_id,age,site", *lines]))
    arguments = [str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"]
    arguments += ["--covariates", str(covariates), "--numeric", "age", "--licence", "CC-BY-4.0"]
    assert main(arguments) == 0
    said = capsys.readouterr().out
    for part in [
        "cohort out: 12 samples, 12 scans of 64 points (0 to 63), from 1 files",
        "left out: 0 scans",
        "samples with a row of covariates: 10 of 12",
        "samples without a row of covariates: 2 (S10, S11)",
        "rows of covariates without a sample: 1 (X1)",
        "roles: label label; group group; numeric age; columns without a role: site",
        "each sample is a group of its own",
        "the positive class is the label with the number 1",
        "--data.labels '{a: 1, b: 0}'",
    ]:
        assert part in said
    described = yaml.safe_load((tmp_path / "out" / "cohort.yaml").read_text())
    assert described["licence"] == "CC-BY-4.0"
    assert described["provenance"]["covariates"]["name"] == "blood.csv"
    cohort = Cohort.read(tmp_path / "out", labels={"a": 1, "b": 0})
    assert cohort.numeric == ["age"]
    assert cohort.samples["age"].isna().sum() == 2


@pytest.mark.parametrize("covariates", [True, False])
def test_the_command_that_is_named_next_works(wide, tmp_path, capsys, covariates, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(ROOT / "experiments" / "import_cohort.py")])
    arguments = [str(wide), "out", "--format", "csv", "--axis", "own"]
    if covariates:
        text = "sample_id,age,sex\n" + "".join(f"S{i:02d},{i},{'fm'[i % 2]}\n" for i in range(12))
        Path("blood.csv").write_text(text)
        arguments += ["--covariates", "blood.csv", "--numeric", "age", "--categorical", "sex"]
    assert main(arguments) == 0
    command = shlex.split(capsys.readouterr().out.splitlines()[-1].removeprefix("next"))
    assert Path(command[1]).samefile(ROOT / "experiments" / "run.py")
    assert run_main([*command[2:], "--dry-run"]) == 0


def test_groups_that_are_named_are_not_asked_for(wide, tmp_path, capsys):
    arguments = [str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"]
    assert main([*arguments, "--group-from", "wide"]) == 0
    assert "group of its own" not in capsys.readouterr().out
    assert set(pd.read_csv(tmp_path / "out" / "samples.csv")["group"]) == {"wide"}


def test_a_cohort_without_a_label_says_so(tmp_path, capsys):
    write_mzml(tmp_path / "S1.mzML", [Spectrum([100.0, 101.0], [1.0, 2.0])])
    arguments = [str(tmp_path / "S1.mzML"), str(tmp_path / "out"), "--format", "mzml"]
    assert main([*arguments, "--axis", "100:102:1"]) == 0
    said = capsys.readouterr().out
    assert "no label yet" in said
    assert said.splitlines()[-1] == f"next  scanfire new {tmp_path / 'out'}"


def test_files_choose_and_name_themselves_by_patterns(tmp_path):
    for sample in ("s1", "s2"):
        write_bruker(tmp_path / "raw" / sample, [5] * 9000)
        write_bruker(tmp_path / "raw" / sample, [7] * 9000, replicate="2")
    arguments = [str(tmp_path / "raw"), str(tmp_path / "out"), "--format", "bruker"]
    arguments += ["--axis", "2000:7000:10", "--match", "*/1/1SLin/fid", "--sample-from", r"/(s\d)"]
    assert main([*arguments, "--group-from", "raw"]) == 0
    samples = pd.read_csv(tmp_path / "out" / "samples.csv")
    assert samples["sample_id"].tolist() == ["s1", "s2"]
    assert samples["group"].tolist() == ["raw", "raw"]
    assert set(np.unique(np.load(tmp_path / "out" / "spectra.npy"))) == {5.0}


class Screen(io.StringIO):
    """Stands for a terminal."""

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("watched", [True, False])
def test_progress_is_shown_to_whom_watches_and_to_no_file(wide, tmp_path, monkeypatch, watched):
    screen = Screen() if watched else io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr("experiments.import_cohort.REDRAW_SECONDS", 0.0)
    assert main([str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"]) == 0
    shown = [part for part in ("7 scans", "file 1 of 1") if part in screen.getvalue()]
    assert shown == (["7 scans", "file 1 of 1"] if watched else [])


# Kills


def import_often(arguments: list[str]) -> int:
    """The command line, with checkpoints so often that a small import is killed in its midst."""
    RawImport.__init__.__defaults__ = (0.02,)  # type: ignore[misc]
    return main(arguments)


@pytest.mark.slow
def test_a_killed_import_goes_on_and_ends_with_the_same_bytes(tmp_path, capsys):
    rng = np.random.default_rng(0)
    raw = tmp_path / "raw"
    raw.mkdir()
    for part in range(10):
        rows = [(f"S{part}_{row}", *rng.integers(0, 99, 500)) for row in range(200)]
        write_wide_csv(raw / f"{part:02d}.csv", range(500), rows)
    arguments = ["--format", "csv", "--axis", "0:500:2"]
    words = [str(raw), str(tmp_path / "a" / "out"), *arguments]
    process = start_forked(tmp_path, import_often, words)
    progress = tmp_path / "a" / "out.partial" / "progress.json"
    while not progress.exists() and process.is_alive():
        time.sleep(0.001)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not (tmp_path / "a" / "out").exists()
    assert main([str(raw), str(tmp_path / "a" / "out"), *arguments]) == 0
    assert "resuming the interrupted import" in capsys.readouterr().out
    assert main([str(raw), str(tmp_path / "b" / "out"), *arguments]) == 0
    assert read_tree(tmp_path / "a" / "out") == read_tree(tmp_path / "b" / "out")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["out"]


def test_an_interrupt_leaves_with_130_and_says_how_to_go_on(wide, tmp_path, monkeypatch, capsys):
    def interrupted(self, watch):
        raise KeyboardInterrupt

    monkeypatch.setattr("datasets.importing.raw_import.RawImport.run", interrupted)
    assert main([str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"]) == 130
    assert "the same command resumes" in capsys.readouterr().err


def test_a_bug_still_shows_its_traceback(wide, tmp_path, monkeypatch):
    monkeypatch.setattr("datasets.importing.raw_import.RawImport.run", lambda self, watch: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main([str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"])


# Damaged inputs: one line, exit code 2, nothing written


def truncated_mzml(raw: Path) -> list[str]:
    path = write_mzml(raw / "S1.mzML", [Spectrum(range(100, 120), range(20))] * 30)
    path.write_bytes(path.read_bytes()[:-3000])
    return ["--format", "mzml", "--axis", "100:120:1"]


def wrong_fid(raw: Path) -> list[str]:
    fid = write_bruker(raw / "s1", [5] * 9000)
    fid.write_bytes(fid.read_bytes()[:-8])
    return ["--format", "bruker", *AXIS]


def mixed_axes(raw: Path) -> list[str]:
    write_wide_csv(raw / "a.csv", [100, 101], [("S1", 1, 2)])
    write_wide_csv(raw / "b.csv", [100, 102], [("S2", 1, 2)])
    return ["--format", "csv", "--axis", "own"]


def other_units(raw: Path) -> list[str]:
    write_wide_csv(raw / "a.csv", [100, 101], [("S1", 1, 2)])
    write_wide_csv(raw / "b.csv", [4000, 4001], [("S2", 1, 2)])
    return ["--format", "csv", "--axis", "100:102:1"]


def latin_1(raw: Path) -> list[str]:
    (raw / "a.csv").write_bytes("sample_id,100,101\nJürgen,1,2\n".encode("latin-1"))
    return ["--format", "csv", "--axis", "own"]


def duplicate_ids(raw: Path) -> list[str]:
    write_wide_csv(raw / "a.csv", [100, 101], [("S1", 1, 2), ("S1", 3, 4)])
    return ["--format", "csv", "--axis", "own"]


def decreasing_axis(raw: Path) -> list[str]:
    (raw / "S1.txt").write_text("4000 1\n3999 2\n3998 3\n")
    return ["--format", "text", "--axis", "3998:4001:1"]


def infinite(raw: Path) -> list[str]:
    write_wide_csv(raw / "a.csv", [100, 101], [("S1", 1, 2), ("S2", "inf", 4)])
    return ["--format", "csv", "--axis", "own"]


DAMAGED = {
    truncated_mzml: r"S1\.mzML is damaged after \d+ spectra",
    wrong_fid: r"1SLin/fid holds 35992 bytes; its acqu says 9000 points \(TD\), which are 36000",
    mixed_axes: r"mixed axes: in raw/b\.csv, row 2 \(sample 'S2'\) point 1 is 102, that of raw/a",
    other_units: r"covers 4000 to 4001, nothing of the axis \(100 to 101\)",
    latin_1: r"a\.csv is not UTF-8 text \(byte 0xfc\)",
    duplicate_ids: r"duplicate: sample 'S1', scan '0', stands in raw/a\.csv, twice; "
    "number the rows of a sample in a column 'scan'",
    decreasing_axis: r"raw/S1\.txt: the axis falls, point 1 is 3999 after 4000; .*reverse",
    infinite: r"row 3 \(sample 'S2'\): intensity inf at point 0; finite was expected",
}


def assert_one_line(capsys, message: str) -> None:
    shown = capsys.readouterr()
    assert shown.err.startswith("error: ")
    assert shown.err.count("\n") == 1, shown.err
    assert re.search(message, shown.err), shown.err


@pytest.mark.parametrize("damage", DAMAGED, ids=lambda damage: damage.__name__)
def test_a_damaged_input_is_one_line_and_exit_code_2(damage, tmp_path, capsys):
    raw = tmp_path / "raw"
    raw.mkdir()
    assert main([str(raw), str(tmp_path / "out"), *damage(raw)]) == 2
    assert_one_line(capsys, DAMAGED[damage])
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


WRONG_USES = {
    "--format: nothing is called 'mzlm'; did you mean 'mzml'?": [
        *("--format", "mzlm", "--axis", "own")
    ],
    "--format datasets.readers.RawScan: no reader; expected a dataclass that derives from": [
        *("--format", "datasets.readers.RawScan", "--axis", "own")
    ],
    "arguments are required: --axis": ["--format", "csv"],
    "START:STOP:STEP was expected": ["--format", "csv", "--axis", "100-200"],
    "no aggregate 'avg'": ["--format", "csv", "--axis", "0:9:1", "--aggregate", "avg"],
    "--ms-level means nothing to the format csv": [
        *["--format", "csv", "--axis", "own", "--ms-level", "2"],
    ],
    "names a column of --covariates": [
        *["--format", "csv", "--axis", "own", "--covariate-id", "x"],
    ],
    "no scan is left out for 'saturatd'": [
        *["--format", "csv", "--axis", "own", "--filter", "saturatd"],
    ],
    "no file .*blood.csv": ["--format", "csv", "--axis", "own", "--covariates", "blood.csv"],
    "unrecognized arguments": ["--format", "csv", "--axis", "own", "--licens", "x"],
    "no column 'lable' for the role label; did you mean 'label'": [
        *["--format", "csv", "--axis", "own", "--label", "lable"],
    ],
}


@pytest.mark.parametrize("message", WRONG_USES)
def test_a_wrong_use_is_one_line_and_exit_code_2(wide, tmp_path, capsys, message):
    assert main([str(wide), str(tmp_path / "out"), *WRONG_USES[message]]) == 2
    assert_one_line(capsys, message.replace("?", r"\?"))
    assert [path.name for path in tmp_path.iterdir()] == ["wide.csv"]


def test_a_missing_source_and_an_existing_folder_are_refused(wide, tmp_path, capsys):
    arguments = ["--format", "csv", "--axis", "own"]
    assert main([str(tmp_path / "wdie.csv"), str(tmp_path / "out"), *arguments]) == 2
    assert_one_line(capsys, r"did you mean 'wide\.csv'\?")
    (tmp_path / "out").mkdir()
    assert main([str(wide), str(tmp_path / "out"), *arguments]) == 2
    assert_one_line(capsys, "never overwritten")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_is_one_line(wide, tmp_path, monkeypatch, capsys):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert main([str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"]) == 2
    assert_one_line(capsys, "No space left on device; the same command resumes")
    monkeypatch.undo()
    assert main([str(wide), str(tmp_path / "out"), "--format", "csv", "--axis", "own"]) == 0
