"""Drift, sets, validation, explanation and page of a finished run's predictions."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.errors import UsageError
from datasets.simulation import simulate_cohort
from experiments.analysis import summarise_training
from experiments.builders import build_data
from experiments.config import check_config
from experiments.prediction import Analyses, Asked, load_model, predict_file
from experiments.prediction.drift import NO_SUMMARY
from experiments.runs import Experiment
from tests.experiments.conftest import SMALL_TFT
from tests.experiments.prediction.made_cohorts import (
    change_samples,
    held_out,
    leave_out_spectra,
    take,
)

pytestmark = pytest.mark.slow
SAMPLES, POINTS = 240, 128


def settings_of(root, runs, seed=0):
    return {
        "exp_name": "drift",
        "runs_dir": str(runs),
        "seed": seed,
        "data": {
            "root": str(root),
            "labels": {"control": 0, "case": 1},
            "transforms": ["tic", "sqrt", "standardize"],
        },
        "model": {"name": "tft", "params": SMALL_TFT},
        "trainer": {"max_epochs": 2, "batch_size": 32, "device": "cpu"},
        "report": {"enabled": False, "resamples": 40},
        "audit": {"enabled": False},
        "baselines": {"enabled": False},
    }


@pytest.fixture(scope="module")
def larger(tmp_path_factory):
    """A cohort, and a run of it."""
    folder = tmp_path_factory.mktemp("larger")
    root = simulate_cohort(folder / "cohort", 5, n_samples=SAMPLES, spec_len=POINTS).root
    experiment = Experiment(check_config(settings_of(root, folder / "runs")))
    experiment.run()
    return root, experiment.run_dir


@pytest.fixture
def new(larger, tmp_path):
    """The test set of that run; change it at will."""
    root, run_dir = larger
    return held_out(root, run_dir, tmp_path / "held_out")


def analysed(source, cohort, out, **asked):
    """The table, the lines, and the analyses."""
    model = load_model(source)
    checked = model.check(cohort)
    analyses = Analyses(model, checked, Asked(**asked))
    predictions = predict_file(model, checked, out, analyses.columns)
    lines = list(analyses.conclude(predictions))
    return pd.read_csv(out, dtype=str, keep_default_na=False), lines, predictions


def drift_in(lines):
    return [line for line in lines if line.startswith("drift: ")]


def test_a_runs_own_test_set_raises_no_alarm(larger, new, tmp_path):
    table, lines, _ = analysed(larger[1], new, tmp_path / "p.csv")
    assert drift_in(lines) == []
    assert set(table["far_outside"]) == {""}


def test_no_split_of_a_cohort_raises_an_alarm(larger, tmp_path):
    root, run_dir = larger
    model, found = load_model(run_dir), []
    for seed in range(8):
        config = check_config(settings_of(root, tmp_path / "runs", seed))
        data = build_data(config)
        summary = summarise_training(data).state_dict()
        fitted = replace(
            model.fitted,
            transforms=data.transforms,
            encoder=data.encoder,
            plain={**model.fitted.plain, "training_summary": summary},
        )
        predictor = model.predictors[0]
        predictor.fitted = fitted
        test = [s for s, of in zip(data.cohort.sample_ids, data.split, strict=True) if of == "test"]
        cohort = take(root, tmp_path / f"test{seed}", test)
        checked = model.check(cohort)
        analyses = Analyses(model, checked, Asked())
        predictions = predict_file(model, checked, tmp_path / f"{seed}.csv", analyses.columns)
        found += drift_in(analyses.conclude(predictions))
    assert found == []


def shift(cohort, points):
    spectra = np.load(cohort / "spectra.npy")
    moved = np.roll(spectra, points, axis=1)
    np.save(cohort / "spectra.npy", moved.astype(np.float32))


def add_batch(cohort):
    spectra = np.load(cohort / "spectra.npy")
    wave = 1 + 2 * np.sin(np.arange(POINTS) / 6) ** 2
    np.save(cohort / "spectra.npy", (spectra * wave).astype(np.float32))


def change_unit(cohort):
    change_samples(
        cohort, lambda table: table.assign(BMI=pd.to_numeric(table["BMI"]).mul(2.2).astype(str))
    )


def lose_values(cohort):
    change_samples(cohort, lambda table: table.assign(AST=["" for _ in table["AST"]]))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (partial(shift, points=2), "peaks are shifted in"),
        (add_batch, "the residual from the main components is larger than in training"),
        (change_unit, "covariate BMI: median "),
        (lose_values, "missing values of AST: 100% here"),
    ],
    ids=["calibration", "batch", "unit", "missing"],
)
def test_what_was_changed_in_the_test_set_is_found(larger, new, tmp_path, change, told):
    change(new)
    _, lines, _ = analysed(larger[1], new, tmp_path / "p.csv")
    assert any(told in line for line in drift_in(lines)), lines


def test_samples_far_outside_are_marked_in_the_table(larger, new, tmp_path):
    names = pd.read_csv(new / "samples.csv")["sample_id"]

    def make_old(table):
        table.loc[table["sample_id"] == names[2], "age"] = "640"
        return table

    change_samples(new, make_old)
    scans = pd.read_csv(new / "scans.csv")
    spectra = np.load(new / "spectra.npy")
    own = (scans["sample_id"] == names[1]).to_numpy()
    spectra[own] = spectra[own][:, ::-1] ** 2
    np.save(new / "spectra.npy", spectra)
    table, lines, _ = analysed(larger[1], new, tmp_path / "p.csv")
    marked = table.set_index("sample_id")["far_outside"]
    assert marked[marked != ""].to_dict() == {names[1]: "spectrum", names[2]: "age"}
    assert any(f"2 of {len(names)} samples far outside" in line for line in lines)


def test_blocks_are_marked_as_the_whole_is(larger, new, tmp_path, monkeypatch):
    add_batch(new)
    whole, lines, _ = analysed(larger[1], new, tmp_path / "whole.csv")
    monkeypatch.setattr("experiments.prediction.loaded_model.BLOCK", 7)
    blocks, again, _ = analysed(larger[1], new, tmp_path / "blocks.csv")
    assert blocks["far_outside"].equals(whole["far_outside"])
    assert drift_in(again) == drift_in(lines)


def test_a_run_without_a_summary_predicts_and_says_so(larger, new, tmp_path):
    earlier = tmp_path / "earlier"
    shutil.copytree(larger[1], earlier)
    fitted = torch.load(earlier / "preprocessing.pt", weights_only=True)
    del fitted["training_summary"]
    torch.save(fitted, earlier / "preprocessing.pt")
    page = tmp_path / "p.html"
    table, lines, _ = analysed(earlier, new, tmp_path / "p.csv", report=page)
    assert lines[0] == NO_SUMMARY
    assert "far_outside" not in table
    assert "no drift check" in page.read_text("utf-8")


def test_sets_are_a_column_and_hold_the_truth(larger, new, tmp_path):
    table, _, predictions = analysed(larger[1], new, tmp_path / "p.csv", coverage=0.8)
    sets = table["prediction_set"].str.split("|")
    held = [true in found for true, found in zip(table["target"], sets, strict=True)]
    assert np.mean(held) > 0.6
    assert all(set(found) <= {"control", "case", ""} for found in sets)
    assert len(predictions) == len(table)


def test_too_high_a_coverage_is_refused_before_anything_is_written(larger, new, tmp_path):
    with pytest.raises(UsageError, match=r"coverage 0.999 needs 999 groups of a class"):
        analysed(larger[1], new, tmp_path / "p.csv", coverage=0.999)
    assert not (tmp_path / "p.csv").exists()


def test_labels_give_figures_beside_the_runs_own(larger, new, tmp_path):
    run_dir = larger[1]
    _, lines, _ = analysed(run_dir, new, tmp_path / "p.csv", prevalence=0.02)
    test = json.loads((run_dir / "metrics.json").read_text())["test"]
    (headline,) = [line for line in lines if line.startswith("external validation: ")]
    # It is the run's own test set: both figures are the run's.
    assert headline.count(f"{test['metrics']['auroc']:.4f} (") == 2
    (point,) = [line for line in lines if "at the threshold" in line]
    threshold = test["thresholds"]["case"][0]
    assert f"sensitivity {threshold['test']['sensitivity']:.4f}" in point
    assert "prevalence 0.020" in point


def test_the_page_stands_alone_and_has_all_parts(larger, new, tmp_path):
    page = tmp_path / "p.html"
    asked = {"coverage": 0.8, "explain": 3, "report": page, "prevalence": 0.1}
    _, lines, predictions = analysed(larger[1], new, tmp_path / "p.csv", **asked)
    assert lines[-1] == f"page: {page}"
    text = page.read_text("utf-8")
    for name in (
        *("drift", "compared", "outside", "sets", "validation", "calibration", "reliability"),
        *("points", "benefit", "subgroups", "samples", "windows", "covariates"),
    ):
        assert f'id="{name}"' in text or f'id="figure-{name}"' in text, name
    for sample in predictions.sample_ids[:3]:
        assert f'"label":"{sample}"' in text
    assert f'"label":"{predictions.sample_ids[3]}"' not in text
    assert not re.search(r'<(?:script|link|img)[^>]+(?:src|href)="http', text)
    assert text.count('"showSendToCloud": false') == text.count("Plotly.newPlot(")


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_every_task_has_a_page(train, root, tmp_path, task):
    run_dir = train(task)
    page = tmp_path / "p.html"
    asked = {"coverage": 0.5, "explain": 2, "report": page}
    table, lines, _ = analysed(run_dir, root, tmp_path / "p.csv", **asked)
    assert any(line.startswith("external validation: ") for line in lines)
    assert 'id="sets"' in page.read_text("utf-8")
    sets = [column for column in table if column.startswith(("prediction_set", "lower_"))]
    expected = {
        "multiclass": ["prediction_set"],
        "multilabel": ["prediction_set_diseased", "prediction_set_heavy"],
        "regression": ["lower_risk", "lower_BMI"],
    }
    assert sets == expected[task]


def test_sets_of_both_modalities_are_not_given_without_one(train, root, tmp_path):
    run_dir = train(model={"name": "tft", "params": SMALL_TFT | {"modality_dropout": 0.5}})
    new = held_out(root, run_dir, tmp_path / "new")
    assert analysed(run_dir, new, tmp_path / "both.csv", coverage=0.5)[2].sample_ids
    leave_out_spectra(new)
    with pytest.raises(UsageError, match=r"--coverage: .*covariates and spectra.* has no spectra"):
        analysed(run_dir, new, tmp_path / "p.csv", coverage=0.5)
    assert not (tmp_path / "p.csv").exists()


def test_nothing_is_overwritten_and_explain_needs_a_page(larger, new, tmp_path):
    page = tmp_path / "p.html"
    page.write_text("mine")
    with pytest.raises(UsageError, match=r"--report: .* exists and is not overwritten"):
        analysed(larger[1], new, tmp_path / "p.csv", report=page)
    with pytest.raises(UsageError, match="--explain draws on a page"):
        analysed(larger[1], new, tmp_path / "p.csv", explain=3)
    with pytest.raises(UsageError, match="--explain: a number of samples from 1 on"):
        analysed(larger[1], new, tmp_path / "p.csv", explain=0, report=tmp_path / "q.html")
    change_samples(new, lambda table: table.drop(columns="label"))
    with pytest.raises(UsageError, match="--prevalence: the cohort has no labels"):
        analysed(larger[1], new, tmp_path / "p.csv", prevalence=0.1)
    assert page.read_text() == "mine"
    assert not (tmp_path / "p.csv").exists()
