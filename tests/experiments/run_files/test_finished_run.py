from __future__ import annotations

import json
import math

import pandas as pd
import pytest
import torch

from datasets.errors import UsageError
from engine.metrics import TASKS, by_target, metric_value
from experiments.run_files.finished_run import find_runs, read_predictions, read_run, read_runs
from tests.experiments.made_runs import drawn, make_run
from tests.experiments.report.made_outputs import NAMES


@pytest.fixture
def folder(tmp_path):
    return make_run(tmp_path / "runs" / "one", drawn("binary"), model__name="late_fusion")


def test_a_run_is_what_its_files_say(folder):
    run = read_run(folder, "one")
    written = json.loads((folder / "metrics.json").read_text())
    assert (run.model, run.parameters, run.epochs, run.seconds) == ("late_fusion", 1234, 4, 6.0)
    assert (run.monitor, run.validation) == ("val/auroc", 0.8)
    assert run.class_names == NAMES["binary"]
    auroc = run.test_figure("auroc")
    assert auroc.value == written["test"]["metrics"]["auroc"]
    assert [auroc.low, auroc.high] == written["test"]["intervals"]["auroc"]
    assert run.samples_of("val") == {"v1", "v2"}
    assert run.samples_of("test") == set(run.outputs.sample_id)
    assert run.environment["python"] == "3.11.7"


def test_a_run_is_shown_as_a_line_or_a_table(folder):
    run = read_run(folder, "one")
    assert repr(run) == "FinishedRun(name=one, model=late_fusion, epochs=4, val/auroc=0.8000)"
    table = run._repr_html_()
    assert f"<tr><th>folder</th><td>{folder}</td></tr>" in table
    assert "<th>test/auroc</th>" in table


def test_an_unpacked_package_is_a_run_whose_time_is_unknown(folder):
    (folder / "log.jsonl").unlink()
    run = read_run(folder, "one")
    assert math.isnan(run.seconds)
    assert run.epochs == 4


def test_a_run_of_an_earlier_version_is_read(folder):
    (folder / "resolved.yaml").replace(folder / "config.yaml")
    assert "auroc" in read_run(folder, "one").metric_names


def test_metrics_that_predictions_cannot_give_are_left_out(tmp_path):
    made = make_run(tmp_path / "x", drawn("binary"), metrics=["auroc", "modality_agreement"])
    assert read_run(made, "x").metric_names == ["auroc"]


def test_runs_are_found_by_path_and_by_name(folder):
    assert find_runs([str(folder)], folder.parent.parent) == [folder]
    assert find_runs(["one"], folder.parent) == [folder]


@pytest.mark.parametrize(
    ("which", "words"),
    [
        (["on"], "no run 'on' in .*did you mean 'one'"),
        (["one", "one"], "one is given twice"),
        (["one", "{runs}/one/"], "one is given twice"),
    ],
)
def test_what_is_no_run_is_refused_with_the_nearest(folder, which, words):
    which = [name.format(runs=folder.parent) for name in which]
    with pytest.raises(UsageError, match=words):
        find_runs(which, folder.parent)


def test_runs_of_one_name_are_called_by_their_paths(folder, tmp_path):
    other = make_run(tmp_path / "older" / "one", drawn("binary"))
    assert [run.name for run in read_runs([folder, other])] == [str(folder), str(other)]
    third = make_run(tmp_path / "older" / "two", drawn("binary"))
    assert [run.name for run in read_runs([folder, third])] == ["one", "two"]


def remove(name):
    return lambda folder: (folder / name).unlink()


def edit(name, old, new):
    def change(folder):
        text = (folder / name).read_text("utf-8")
        assert old in text
        (folder / name).write_text(text.replace(old, new), "utf-8")

    return change


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (remove("predictions.csv"), "lacks predictions.csv: only finished runs"),
        (remove("environment.json"), "lacks environment.json"),
        (edit("log.jsonl", "run_finished", "run_terminated"), "was cut off: continue it"),
        (edit("metrics.json", '"test": {', '"untested": {'), "was not tested"),
        (edit("metrics.json", '"last"', '"latest"'), "are not as a run writes them"),
        (edit("metrics.json", "{", "["), "metrics.json.*: not valid YAML"),
        (edit("resolved.yaml", "- auroc", "- aurocc"), "no metric is called 'aurocc'"),
        (edit("resolved.yaml", "model:", "modell:"), "are not as a run writes them"),
        (edit("splits.csv", "s3,s3,test", "s3,s3,train"), "holds sample 's3', which splits.csv"),
        (edit("splits.csv", "group", "patient"), "has no needed column 'group'"),
    ],
)
def test_a_run_that_cannot_be_compared_is_named(folder, change, words):
    change(folder)
    with pytest.raises(UsageError, match=words) as refused:
        read_run(folder, "one")
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("task", TASKS)
def test_read_predictions_give_exactly_the_same_metrics(task, tmp_path):
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


def test_decisions_are_read_as_they_were_written(tmp_path):
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
    assert torch.equal(part.predicted, found.predicted[[3, 1]])


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
