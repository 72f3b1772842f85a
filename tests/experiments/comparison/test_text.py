from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from engine.reporting import with_bounds
from engine.statistics import holm
from experiments.comparison.comparison_page import (
    comparison_text,
    differing_settings,
    differing_surroundings,
    write_run_comparison,
)
from experiments.comparison.run_comparison import compare_runs
from experiments.run_files import read_runs
from tests.experiments.made_runs import ENVIRONMENT, drawn, make_run


@pytest.fixture
def runs(tmp_path):
    """Runs with these settings, and with changes to their environment under that name."""

    def make(**made):
        return read_runs(
            [make_run(tmp_path / name, drawn("binary"), **given) for name, given in made.items()]
        )

    return make


def test_differing_settings_are_listed_by_dotted_keys(runs):
    found = differing_settings(
        runs(
            a={"optimizer__lr": 1e-3, "seed": 3, "data__split__seed": 1},
            b={"optimizer__lr": 3e-4, "seed": 3, "data__split__seed": 2},
            c={"optimizer__lr": 1e-3, "seed": 3, "data__split__seed": 1},
        )
    )
    assert found == {
        "data.split.seed": ["1", "2", "1"],
        "optimizer.lr": ["0.001", "0.0003", "0.001"],
    }


def test_a_key_that_a_run_lacks_is_told_from_one_that_is_null(runs):
    found = differing_settings(
        runs(
            a={"model": {"name": "tft", "params": {"d_model": 16}}, "ema__decay": 0.9},
            b={"model": {"name": "tft", "params": {}}},
        )
    )
    assert found == {"model.params.d_model": ["16", "-"], "ema.decay": ["0.9", "null"]}


def test_a_list_is_one_value(runs):
    found = differing_settings(runs(a={"metrics": ["auroc"]}, b={"metrics": ["auroc", "brier"]}))
    assert found == {"metrics": ['["auroc"]', '["auroc", "brier"]']}


def test_names_and_places_are_no_differences(runs):
    assert differing_settings(runs(a={"runs_dir": "/here"}, b={"runs_dir": "/there"})) == {}


def test_code_and_data_are_compared_but_not_the_machine(runs):
    other = {
        "commit": "2" * 40,
        "host": "elsewhere",
        "packages": {**ENVIRONMENT["packages"], "torch": "2.14.0"},
        "data": {**ENVIRONMENT["data"], "spectra.npy": "c" * 64},
    }
    assert differing_surroundings(runs(a={}, b={"environment": other})) == {
        "commit": ["1" * 12, "2" * 12],
        "packages.torch": ["2.13.0", "2.14.0"],
        "data.spectra.npy": ["b" * 12, "c" * 12],
    }


@pytest.fixture
def tell(tmp_path):
    """The text of so many runs, and what it was made of."""

    def of(number, task="binary", **settings):
        folders = [
            make_run(
                tmp_path / f"run-{n}", drawn(task, n), **{k: v[n] for k, v in settings.items()}
            )
            for n in range(number)
        ]
        comparison = compare_runs(read_runs(folders), 100)
        return comparison_text(comparison), comparison

    return of


def cells(text, title):
    """The cells of a row."""
    (line,) = [line for line in text.splitlines() if line.split("  ")[0] == title]
    return [cell.strip() for cell in line[len(title) :].split("  ") if cell.strip()]


@pytest.mark.slow
def test_a_column_a_run_and_a_row_a_metric_with_its_difference(tell):
    text, comparison = tell(2)
    lines = text.splitlines()
    assert lines[0].startswith("2 runs on their 40 shared test samples.")
    assert cells(text, "parameters") == ["1,234", "1,234"]
    assert cells(text, "epochs") == ["4", "4"]
    assert cells(text, "best val/auroc") == ["0.8000", "0.8000"]
    assert cells(text, "auroc") == [with_bounds(found["auroc"]) for found in comparison.figures]
    at = next(number for number, line in enumerate(lines) if line.startswith("auroc "))
    apart = with_bounds(comparison.differences[0]["auroc"], "+")
    assert lines[at + 1].split("  ")[-1].strip() == apart
    assert cells(text, "DeLong p") == [f"{comparison.delong[0].p_value:.4f}"]
    assert cells(text, "McNemar p") == [f"{comparison.mcnemar[0].p_value:.4f}"]
    assert "Holm" not in text


@pytest.mark.slow
def test_several_runs_are_corrected_for_and_stand_in_blocks(tell):
    text, comparison = tell(5)
    heads = [line.split() for line in text.splitlines() if line.lstrip().startswith("run-")]
    assert heads == [["run-0", "run-1", "run-2"], ["run-3", "run-4"]]
    assert text.count("\n  Holm") == 4
    assert f"{holm([test.p_value for test in comparison.delong])[3]:.4f}" in text
    assert max(map(len, text.splitlines()[2:])) <= 120


@pytest.mark.slow
def test_settings_that_differ_are_listed_and_long_ones_cut(tell):
    text, _ = tell(2, optimizer__lr=[1e-3, 3e-4], data__numeric=[["age"], ["a" * 50]])
    assert cells(text, "optimizer.lr") == ["0.001", "0.0003"]
    assert cells(text, "data.numeric") == ['["age"]', f'["{"a" * 29}...']
    assert "differing environment" not in text


@pytest.mark.slow
def test_values_have_no_tests_and_what_is_unknown_is_said(tell, tmp_path):
    text, _ = tell(2, "regression")
    assert "DeLong" not in text
    assert "McNemar" not in text
    for name in ("log.jsonl", "summary.md"):
        (tmp_path / "run-0" / name).unlink()
    again = compare_runs(read_runs([tmp_path / "run-0", tmp_path / "run-1"]), 100)
    assert cells(comparison_text(again), "seconds") == ["unknown", "6.0"]
    assert cells(comparison_text(again), "parameters") == ["unknown", "1,234"]


@pytest.mark.slow
def test_warnings_are_called_so(tell):
    text, _ = tell(2, environment=[{}, {"data": {"samples.csv": "e" * 64}}])
    assert "\nwarning: run-1 is of another cohort than run-0" in text


def test_an_undefined_figure_is_called_so(tmp_path):
    outputs = drawn("binary")
    outputs.target.fill_(0)
    folders = [make_run(tmp_path / name, outputs, report__resamples=0) for name in "ab"]
    text = comparison_text(compare_runs(read_runs(folders), 100))
    assert cells(text, "auroc") == ["undefined", "undefined"]
    assert cells(text, "DeLong p") == ["undefined"]


@pytest.mark.slow
def test_two_perfect_models_on_8_samples_are_too_few_to_tell(tmp_path):
    outputs = drawn("binary", samples=8)
    right = 4 * torch.eye(2)[outputs.target]
    folders = [
        make_run(tmp_path / name, replace(outputs, logits=scale * right))
        for name, scale in (("a", 1), ("b", 2))
    ]
    comparison = compare_runs(read_runs(folders), 100)
    text = comparison_text(comparison)
    at = text.splitlines().index(next(x for x in text.splitlines() if x.startswith("auroc ")))
    assert cells(text, "auroc") == ["1.0000 (too few samples)"] * 2
    assert text.splitlines()[at + 1].split("  ")[-1].strip() == "0 (too few samples)"
    assert cells(text, "DeLong p") == ["too few samples"]
    assert cells(text, "McNemar p") == ["1.0000"]
    assert "95% intervals of accuracy, precision, recall, recall_at_fpr@0.05: Clopper" in text
    assert "No 95% interval of f1, auroc, auprc" in text
    assert "No 95% interval of the differences in accuracy, precision" in text
    (files, _) = write_run_comparison(comparison, tmp_path)
    assert "1.0000 (too few samples)" in files[1].read_text("utf-8")


@pytest.mark.slow
def test_a_run_differs_from_its_own_copy_by_nothing(tmp_path):
    folders = [make_run(tmp_path / name, drawn("binary")) for name in "ab"]
    found = compare_runs(read_runs(folders), 100).differences[0]["auroc"]
    assert (found.value, found.low, found.high, found.method) == (0, 0, 0, "bootstrap")


@pytest.mark.parametrize("unit", [1e-5, 1e9])
def test_differences_keep_their_digits_in_any_unit(tmp_path, unit):
    folders = []
    for seed in range(2):
        outputs = drawn("regression", seed)
        logits, target = outputs.logits[:, :1], outputs.target[:, :1]
        outputs = replace(outputs, logits=unit * logits, target=unit * target)
        folders.append(make_run(tmp_path / f"run-{seed}", outputs, ["age"], metrics=["mae"]))
    comparison = compare_runs(read_runs(folders), 100)
    lines = comparison_text(comparison).splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("mae "))
    told = lines[at + 1].split("  ")[-1].strip().replace("(", "").replace(")", "").split()
    found = comparison.differences[0]["mae"]
    shown = [float(told[n]) for n in (0, 1, 3)]
    assert shown == pytest.approx([found.value, found.low, found.high], rel=0.02)
