from __future__ import annotations

import json
import math

import pytest

from datasets.errors import UsageError
from experiments.run_files.finished_run import find_runs, read_run, read_runs
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
    assert run.side("val") == {"v1", "v2"}
    assert run.side("test") == set(run.outputs.sample_id)
    assert run.environment["python"] == "3.11.7"


def test_an_unpacked_package_is_a_run_whose_time_is_unknown(folder):
    (folder / "log.jsonl").unlink()
    run = read_run(folder, "one")
    assert math.isnan(run.seconds)
    assert run.epochs == 4


def test_a_run_of_an_earlier_version_has_all_settings_in_config_yaml(folder):
    (folder / "resolved.yaml").replace(folder / "config.yaml")
    assert "auroc" in read_run(folder, "one").metric_names


def test_what_predictions_cannot_tell_is_left_out_of_the_metrics(tmp_path):
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
def test_a_run_that_cannot_be_compared_is_one_line_that_names_it(folder, change, words):
    change(folder)
    with pytest.raises(UsageError, match=words) as refused:
        read_run(folder, "one")
    assert str(folder) in str(refused.value)
    assert "\n" not in str(refused.value)
