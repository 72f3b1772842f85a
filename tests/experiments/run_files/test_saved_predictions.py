from __future__ import annotations

import pandas as pd
import pytest
import torch

from datasets.errors import UsageError
from engine.metrics import TASKS, by_target, metric_value
from experiments.run_files.saved_predictions import read_predictions
from tests.experiments.made_runs import drawn, make_run
from tests.experiments.report.made_outputs import NAMES


@pytest.mark.parametrize("task", TASKS)
def test_what_is_read_back_gives_the_same_metrics_to_the_last_digit(task, tmp_path):
    outputs = drawn(task)
    found, names = read_predictions(make_run(tmp_path / "run", outputs) / "predictions.csv")
    assert names == NAMES[task]
    assert found.task == task
    assert found.sample_id == outputs.sample_id
    assert torch.equal(found.target.to(outputs.target.dtype), outputs.target)
    assert torch.equal(found.predictions.to(outputs.predictions.dtype), outputs.predictions)
    for name in by_target(TASKS[task].metrics, outputs.targets):
        assert metric_value(name, found) == pytest.approx(metric_value(name, outputs), rel=1e-6)
        if task != "regression":  # whose values are read in double precision
            assert metric_value(name, found) == metric_value(name, outputs)


def test_names_are_text_whatever_they_look_like(tmp_path):
    names = ["NA", "1.0", "a,b", 'the "rest"']
    outputs = drawn("multiclass")
    samples = [f"{number:03}" for number in range(40)]
    outputs = type(outputs)(outputs.logits, outputs.target, samples, {}, "multiclass")
    path = make_run(tmp_path / "run", outputs, names) / "predictions.csv"
    found, read_names = read_predictions(path)
    assert read_names == names
    assert found.sample_id == samples
    assert torch.equal(found.target, outputs.target)


def test_decisions_are_those_that_were_written_by_whatever_threshold(tmp_path):
    path = make_run(tmp_path / "run", drawn("binary")) / "predictions.csv"
    table = pd.read_csv(path)
    table["prediction"] = "case"
    table.to_csv(path, index=False)
    found, _ = read_predictions(path)
    assert found.predictions.eq(1).all()
    assert not found.scores.argmax(dim=1).eq(1).all()


def test_samples_can_be_taken_in_any_order(tmp_path):
    found, _ = read_predictions(make_run(tmp_path / "run", drawn("binary")) / "predictions.csv")
    part = found.take([3, 1])
    assert part.sample_id == [found.sample_id[3], found.sample_id[1]]
    assert torch.equal(part.scores, found.scores[[3, 1]])
    assert torch.equal(part.target, found.target[[3, 1]])
    assert torch.equal(part.said, found.said[[3, 1]])


def test_scores_of_weights_that_diverged_are_read_as_such(tmp_path):
    outputs = drawn("regression")
    outputs.logits[0] = float("nan")
    found, _ = read_predictions(make_run(tmp_path / "run", outputs) / "predictions.csv")
    assert found.diverged


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t: t.drop(columns="sample_id"), "it lacks sample_id"),
        (lambda t: t.drop(columns="prediction"), "it lacks prediction"),
        (lambda t: t.drop(columns=["prob_control", "prob_case"]), r"it lacks prob_\.\.\."),
        (lambda t: t.drop(columns="target"), r"it lacks target_\.\.\."),
        (lambda t: t.assign(target="ill"), "'ill' is none of the classes control, case"),
        (lambda t: t.assign(prob_case="high"), "could not convert string to float"),
        (lambda t: t.assign(sample_id="s0"), "a sample stands there twice"),
        (lambda t: pd.DataFrame(), "expected a table of predictions"),
    ],
)
def test_what_is_no_table_of_predictions_is_said_in_a_line(change, words, tmp_path):
    path = make_run(tmp_path / "run", drawn("binary")) / "predictions.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(UsageError, match=words) as refused:
        read_predictions(path)
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_file_that_is_not_there_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"cannot read .*: No such file"):
        read_predictions(tmp_path / "predictions.csv")
