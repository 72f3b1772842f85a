"""A first configuration for a cohort of one's own: what is guessed, asked, and refused."""

from __future__ import annotations

import csv
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from datasets.simulation import SimulationSettings, Technique, simulate_cohort
from experiments.config import load_config
from experiments.new_config import main
from experiments.run import main as run_main

SAMPLES = 48


@pytest.fixture
def made(tmp_path, monkeypatch) -> Callable[..., Path]:
    """A cohort of covariates: case and control, age, a skewed marker, sex; columns can be added."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def make(changes: Mapping[str, Sequence[Any] | None] | None = None, ids: str = "S{}") -> Path:
        label = rng.permutation(["case", "control"] * (SAMPLES // 2))
        columns: dict[str, Any] = {
            "sample_id": [ids.format(number) for number in range(SAMPLES)],
            "diagnosis": label,
            "age": rng.integers(30, 80, SAMPLES),
            "CRP": np.round(np.exp(rng.normal(1, 1.5, SAMPLES)), 2),
            "sex": rng.choice(["f", "m"], SAMPLES),
            **(changes or {}),
        }
        write_table(tmp_path / "lab" / "samples.csv", columns)
        return tmp_path / "lab"

    return make


def write_table(path: Path, columns: Mapping[str, Sequence[Any] | None]) -> None:
    path.parent.mkdir(exist_ok=True)
    given = {name: values for name, values in columns.items() if values is not None}
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([list(given), *zip(*given.values(), strict=True)])


def written(capsys) -> tuple[list[str], str]:
    """The lines that were printed, and the text of the configuration."""
    lines = capsys.readouterr().out.splitlines()
    (file,) = (line.removeprefix("wrote ") for line in lines if line.startswith("wrote "))
    return lines, Path(file).read_text("utf-8")


def test_roles_are_guessed_and_marked(made, capsys):
    assert main([str(made())]) == 0
    lines, text = written(capsys)
    data = load_config("lab.yaml").data
    assert (data.label, data.group) == ("diagnosis", "sample_id")
    assert data.labels == {"case": 1, "control": 0}
    assert (data.numeric, data.categorical, data.log) == (["age", "CRP"], ["sex"], ["CRP"])
    assert "positive class: case" in lines
    for key in ("label", "labels", "group", "numeric", "categorical", "log"):
        before = text.split(f"  {key}: ")[0].rstrip().splitlines()
        assert any("GUESS" in line for line in before[-2:]), key


def test_the_next_command_works_without_reading(made, capsys, few_trees):
    assert main([str(made())]) == 0
    lines, _ = written(capsys)
    assert lines[-1].startswith("next  scanfire run ")
    words = shlex.split(lines[-1])[3:]
    assert run_main([*words, "--dry-run"]) == 0
    assert "everything fits" in capsys.readouterr().out


def test_a_configuration_is_never_overwritten(made, capsys):
    folder = made()
    Path("lab.yaml").write_text("mine")
    assert main([str(folder)]) == 2
    assert "lab.yaml exists and is left as it is" in capsys.readouterr().err
    assert Path("lab.yaml").read_text() == "mine"
    assert main([str(folder), "--out", "second.yaml"]) == 0
    assert load_config("second.yaml").data.label == "diagnosis"


@pytest.mark.parametrize(
    ("column", "values", "reason"),
    [
        ("plate", [f"p{n % 4}" for n in range(SAMPLES)], "where, when or with what"),
        ("bio_rep", [n % 3 for n in range(SAMPLES)], "where, when or with what"),
        ("hospital_no", [n % 5 for n in range(SAMPLES)], "where, when or with what"),
        ("device_mode", ["on"] * SAMPLES, "one value in all samples"),
        ("remark", [f"text {n}" for n in range(SAMPLES)], "48 different texts"),
        ("empty", [""] * SAMPLES, "empty"),
        ("seen", [f"2024-0{1 + n % 3}-01" for n in range(SAMPLES)], "days"),
        ("seen", [f"{1 + n % 3}.12.2024 10:00" for n in range(SAMPLES)], "days"),
        ("BMI", [f"2{n % 5},{n % 9}" for n in range(SAMPLES)], "with a decimal comma"),
    ],
)
def test_what_is_no_covariate_is_left_out_with_the_reason(made, capsys, column, values, reason):
    assert main([str(made({column: values}))]) == 0
    _, text = written(capsys)
    data = load_config("lab.yaml").data
    assert column not in [*(data.numeric or []), *(data.categorical or [])]
    assert any(column in line and reason in line for line in text.splitlines())


def test_a_column_made_from_the_label_is_left_out(made, capsys):
    label = ["case", "control"] * (SAMPLES // 2)
    code = [1 if name == "case" else 7 for name in label]
    assert main([str(made({"diagnosis": label, "stage": code}))]) == 0
    _, text = written(capsys)
    data = load_config("lab.yaml").data
    assert "stage" not in [*(data.numeric or []), *(data.categorical or [])]
    assert "# stage: stage is the label in another form" in " ".join(text.split())


def test_numbers_with_mistakes_are_a_question(made, capsys):
    values = ["<0.5", *map(str, np.linspace(1, 9, SAMPLES - 1))]
    assert main([str(made({"CRP": values}))]) == 0
    lines, text = written(capsys)
    assert "QUESTION: CRP has 1 cells that are no numbers, such as '<0.5'." in text
    assert any(line.startswith("question: CRP") for line in lines)
    assert "CRP" not in (load_config("lab.yaml").data.numeric or [])


def test_numbers_with_a_decimal_comma_are_a_question(made, capsys):
    assert main([str(made({"BMI": [f"2{n % 5},{n % 9}" for n in range(SAMPLES)]}))]) == 0
    lines, _ = written(capsys)
    assert any(line.startswith("question: BMI has numbers with a decimal comma") for line in lines)


def test_a_second_column_that_reads_like_a_label_is_a_question(made, capsys):
    outcome = ["dead", "alive", "alive"] * (SAMPLES // 3)
    assert main([str(made({"outcome": outcome, "type": ["x", "y"] * (SAMPLES // 2)}))]) == 0
    lines, _ = written(capsys)
    assert "label outcome: alive 32, dead 16" in lines
    told = "question: diagnosis reads like a label, too, and is a covariate now."
    assert any(line.startswith(told) for line in lines)
    assert main([str(made({"outcome": outcome})), "--label", "outcome", "--out", "b.yaml"]) == 0
    assert "reads like a label" not in capsys.readouterr().out


def test_patients_of_several_samples_are_the_groups(made, capsys):
    patients = [f"P{n // 2}" for n in range(SAMPLES)]
    label = [("case", "control")[n // 2 % 2] for n in range(SAMPLES)]
    assert main([str(made({"patient_id": patients, "diagnosis": label}))]) == 0
    _, text = written(capsys)
    assert load_config("lab.yaml").data.group == "patient_id"
    assert "QUESTION" not in text


def test_names_without_a_column_of_groups_are_a_question(made, capsys):
    assert main([str(made())]) == 0
    assert "QUESTION: Is each sample a patient of its own?" in written(capsys)[1]


def test_two_labels_that_do_not_tell_the_positive_one_are_a_question(made, capsys):
    assert main([str(made({"diagnosis": ["HCC", "CHB"] * (SAMPLES // 2)}))]) == 0
    lines, text = written(capsys)
    assert load_config("lab.yaml").data.labels in ({"HCC": 1, "CHB": 0}, {"CHB": 1, "HCC": 0})
    positive = next(line for line in lines if line.startswith("positive class: ")).split()[-1]
    assert f"QUESTION: Is {positive} the positive class?" in text


def test_a_rare_class_is_left_out_and_named(made, capsys):
    label = ["A", "B", "C"] * (SAMPLES // 3)
    label[0:2] = ["odd", "odd"]
    assert main([str(made({"diagnosis": label}))]) == 0
    _, text = written(capsys)
    assert load_config("lab.yaml").data.labels == {"A": 0, "B": 1, "C": 2}
    assert "too rare for a split: odd" in " ".join(text.split())


def test_many_numbers_are_regressed(made, capsys):
    values = np.round(np.random.default_rng(1).normal(50, 9, SAMPLES), 3)
    assert main([str(made({"diagnosis": None, "outcome": values}))]) == 0
    data = load_config("lab.yaml").data
    assert (data.task, data.label) == ("regression", "outcome")


def test_roles_of_the_cohort_are_kept(made, capsys):
    folder = made()
    (folder / "cohort.yaml").write_text("roles: {label: sex, numeric: [age], categorical: []}\n")
    assert main([str(folder)]) == 0
    data = load_config("lab.yaml").data
    assert (data.label, data.numeric, data.categorical) == ("sex", ["age"], [])
    assert main([str(folder), "--label", "diagnosis", "--out", "other.yaml"]) == 0
    assert load_config("other.yaml").data.label == "diagnosis"


@pytest.mark.parametrize(
    ("changes", "words", "told"),
    [
        ({"diagnosis": None}, [], "no column looks like what is to be learned; name it"),
        ({"diagnosis": ["case"] * SAMPLES}, [], "is 'case' in all samples: there is nothing"),
        ({}, ["--label", "diagnosys"], "no column 'diagnosys'; did you mean 'diagnosis'?"),
        ({}, ["--group", "patient"], "no column 'patient'"),
        ({"diagnosis": ["a"] * (SAMPLES - 1) + ["b"]}, [], "of at least 3 groups"),
        ({}, ["--out", "first.txt"], "a name that ends in .yaml or .yml"),
    ],
)
def test_what_cannot_be_learned_is_one_line(made, capsys, changes, words, told):
    assert main([str(made(changes)), *words]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
    assert not list(Path().glob("*.yaml"))


@pytest.mark.parametrize(
    ("place", "told"),
    [
        ("nowhere", "there is no nowhere"),
        (
            "raw",
            "it has no samples.csv; a folder of instrument files becomes one by: scanfire import",
        ),
        ("raw/one.txt", "no column names the samples"),
        ("raw/wide.csv", "has spectra in its columns; make a cohort's folder of it first"),
    ],
)
def test_a_wrong_place_is_one_line(place, told, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Path("raw").mkdir()
    Path("raw/one.txt").write_text("mass,count\n1,2\n")
    points = [str(1000 + n) for n in range(30)]
    write_table(Path("raw/wide.csv"), {"sample_id": ["a"], **{p: [1] for p in points}})
    assert main([place]) == 2
    shown = capsys.readouterr().err
    assert told in shown
    assert shown.count("\n") == 1
    assert sorted(path.name for path in Path("raw").iterdir()) == ["one.txt", "wide.csv"]


def test_a_table_of_covariates_becomes_a_cohort(made, capsys, tmp_path):
    table = tmp_path / "patients.csv"
    (made() / "samples.csv").rename(table)
    table.write_text(table.read_text().replace("sample_id", "Patient ID", 1))
    assert main([str(table), "--label", "no_such"]) == 2
    assert not (tmp_path / "patients").exists()
    assert main([str(table)]) == 0
    data = load_config("patients.yaml").data
    assert data.root == tmp_path / "patients"
    assert data.label == "diagnosis"
    assert main([str(table), "--out", "again.yaml"]) == 2
    assert "patients cannot be made: File exists" in capsys.readouterr().err


def test_the_axis_decides_on_the_transforms(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    techniques: dict[Technique, int] = {"maldi": 1, "nir": 2}
    for technique, steps in techniques.items():
        settings = SimulationSettings(technique=technique)
        root = simulate_cohort(Path(technique), 3, n_samples=40, spec_len=64, settings=settings)
        assert main([str(root.root)]) == 0
        assert len(load_config(f"{technique}.yaml").data.transforms) == steps
        assert "GUESS: " in Path(f"{technique}.yaml").read_text().split("  transforms:")[0][-200:]


@pytest.mark.parametrize(
    "name",
    [
        *("bacteria_isolates_maldi", "fiedler2009_subset_maldi"),
        *("hcc_serum_glycome_maldi", "species_maldi"),
    ],
)
def test_real_cohorts_pass_a_dry_run(name, real_data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main([str(real_data / name)]) == 0
    assert run_main([f"{name}.yaml", "--dry-run"]) == 0
    assert "everything fits" in capsys.readouterr().out
