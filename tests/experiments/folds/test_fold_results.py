from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from datasets.errors import UsageError
from datasets.splits import Folds
from engine.metrics import EpochOutputs
from engine.reporting import figure_text
from experiments.folds.fold_results import (
    fold_results,
    fold_text,
    folds_table,
    pool_outputs,
    summary,
    write_fold_results,
)
from experiments.run_files import read_runs
from tests.experiments.made_runs import drawn, make_run


def part(outputs, rows):
    return EpochOutputs(
        outputs.logits[rows],
        outputs.target[rows],
        [outputs.sample_id[row] for row in rows],
        outputs.losses,
        outputs.task,
    )


@pytest.fixture
def made(tmp_path):
    """Runs of so many folds of one set of outputs, a group each two samples."""

    def make(task="binary", count=4, sets=None, **settings):
        outputs = drawn(task)
        rows = np.arange(len(outputs.sample_id)) if sets is None else None
        sets = [rows[n::count].tolist() for n in range(count)] if rows is not None else sets
        groups = {sample: f"g{row // 2}" for row, sample in enumerate(outputs.sample_id)}
        folders = [
            make_run(tmp_path / f"fold{n}", part(outputs, own), groups=groups, **settings)
            for n, own in enumerate(sets)
        ]
        return outputs, read_runs(folders)

    return make


def folds(count):
    return Folds("fold", [str(number) for number in range(count)], np.zeros(0, dtype=np.int64))


def test_the_spread_is_that_of_the_runs_own_figures(made):
    _, runs = made(metrics=["accuracy", "brier"])
    results = fold_results("made", folds(4), runs, resamples=0)
    for metric in ("accuracy", "brier"):
        own = [run.test_figure(metric).value for run in runs]
        assert list(results.figures[metric]) == own
        row = next(line for line in fold_text(results).splitlines() if line.startswith(metric))
        spread = [np.mean(own), np.std(own, ddof=1), np.median(own)]
        assert row.split()[5:8] == [figure_text(value) for value in spread]


def test_pooled_figures_are_of_all_test_samples_together(made):
    outputs, runs = made()
    results = fold_results("made", folds(4), runs, resamples=60)
    expected = roc_auc_score(outputs.target, outputs.probabilities[:, 1])
    assert results.pooled["auroc"].value == pytest.approx(expected)
    assert results.pooled["auroc"].low < expected < results.pooled["auroc"].high
    assert (results.samples, results.groups, results.resamples) == (40, 20, 60)


def test_without_resamples_there_are_figures_and_no_intervals(made):
    _, runs = made()
    found = fold_results("made", folds(4), runs, resamples=0).pooled["auroc"]
    assert not math.isnan(found.value)
    assert math.isnan(found.low)


@pytest.mark.parametrize("task", ["multiclass", "multilabel", "regression"])
def test_every_task_is_pooled(made, task):
    outputs, runs = made(task, count=2)
    pooled = pool_outputs(runs)
    order = [outputs.sample_id.index(sample) for sample in pooled.sample_id]
    torch.testing.assert_close(pooled.target.float(), outputs.target[order].float())
    torch.testing.assert_close(pooled.scores.float(), outputs.scores[order].float())
    torch.testing.assert_close(pooled.predictions.float(), outputs.predictions[order].float())


def test_a_sample_in_two_folds_is_refused(made):
    outputs, runs = made(sets=[[0, 1, 2, 3], [3, 4, 5, 6]])
    with pytest.raises(UsageError, match=f"'{outputs.sample_id[3]}' was tested in fold0 and in f"):
        pool_outputs(runs)


def test_runs_of_other_classes_are_refused(made, tmp_path):
    outputs, runs = made(sets=[[0, 1, 2, 3]])
    other = make_run(tmp_path / "other", part(outputs, [4, 5, 6, 7]), names=["mild", "severe"])
    with pytest.raises(UsageError, match="other tells mild, severe apart, fold0"):
        pool_outputs([*runs, *read_runs([other])])


# What a whole cross-validation writes is tested in test_cross_validate.py.


@pytest.fixture
def make_results(tmp_path):
    """Results of groups, or of k folds, left out one by one."""

    def make(kind="fold", names=("0", "1"), metrics=("auroc", "brier")):
        outputs, count = drawn("binary"), len(names)
        rows = np.arange(40)
        folders = [
            make_run(
                tmp_path / f"run{n}", part(outputs, rows[n::count].tolist()), metrics=[*metrics]
            )
            for n in range(count)
        ]
        folds = Folds(kind, list(names), np.zeros(0, dtype=np.int64))
        return fold_results("made|up", folds, read_runs(folders), ["cohort a|b"], resamples=0)

    return make


def test_undefined_figures_are_left_out_of_the_spread(make_results):
    results = make_results(names=("0", "1", "2"), metrics=("auroc",))
    results.figures["auroc"] = [math.nan, 0.5, 0.7]
    text = fold_text(results)
    row = next(line for line in text.splitlines() if line.startswith("auroc"))
    assert row.split()[1:7] == ["undefined", "0.5000", "0.7000", "0.6000", "0.1414", "0.6000"]
    assert "auroc is undefined in 1 of 3 folds; its mean" in text
    results.figures["auroc"] = [math.nan, math.nan, 0.5]
    assert " 0.5000  undefined  0.5000 " in fold_text(results)
    results.figures["auroc"] = math.nan
    assert "auroc is undefined in 3 of 3 folds." in fold_text(results)


def test_names_of_the_users_own_do_not_break_tables(make_results):
    text = summary(make_results("site", ("north|1", "south")))
    assert text.startswith("# made\\|up: each site left out in turn, 2 of them; 40 samples")
    assert "- cohort a\\|b" in text
    row = next(line for line in text.splitlines() if line.startswith("| north"))
    assert row.startswith("| north\\|1 | run0 |")


def test_a_terminal_shows_few_folds_one_by_one(make_results):
    few = fold_text(make_results("group", ("plate A", "plate B")))
    assert re.search(r"group plate A +group plate B +mean +sd +median +pooled\n", few)
    assert re.search(r"\nbrier( +0\.\d{4}){6}\n", few)


@pytest.mark.slow
def test_of_many_folds_a_terminal_shows_the_spread(make_results):
    text = fold_text(make_results(names=tuple(map(str, range(20)))))
    assert "fold 3" not in text
    assert "mean" in text


def test_a_batch_column_called_like_another_one_is_no_trouble(make_results):
    table = folds_table(make_results("run", ("north", "south")))
    assert table["fold"].tolist() == ["north", "south"]
    assert table["run"].tolist() == ["run0", "run1"]


def test_what_predictions_do_not_tell_has_no_pooled_figure(make_results):
    results = make_results(metrics=("auroc",))
    results.pooled.clear()
    row = next(line for line in fold_text(results).splitlines() if line.startswith("auroc"))
    assert row.split()[-1] == "-"


def test_a_folder_that_cannot_be_written_is_one_line(make_results, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"cannot write to .*file/folds"):
        write_fold_results(make_results(), tmp_path / "file" / "folds")


@pytest.mark.parametrize("unit", [1e-5, 1e9])
def test_figures_of_folds_keep_their_digits_in_any_unit(tmp_path, unit):
    outputs = drawn("regression")
    one = slice(0, 1)
    outputs = replace(
        outputs, logits=unit * outputs.logits[:, one], target=unit * outputs.target[:, one]
    )
    folders = [
        make_run(
            tmp_path / f"run{n}", part(outputs, list(range(n, 40, 2))), ["age"], metrics=["mae"]
        )
        for n in range(2)
    ]
    folds = Folds("fold", ["0", "1"], np.zeros(0, dtype=np.int64))
    results = fold_results("made", folds, read_runs(folders), [], resamples=50)
    row = next(line for line in fold_text(results).splitlines() if line.startswith("mae"))
    told = [float(number) for number in row.replace("(", "").replace(")", "").split()[1:7]]
    own = results.figures["mae"]
    expected = [*own, own.mean(), own.std(), own.median(), results.pooled["mae"].value]
    assert told == pytest.approx(expected, rel=1e-3)
    assert f"{results.pooled['mae'].low:.2e}"[:3] in row


def test_pooled_figures_of_few_groups_are_told_as_unsure(tmp_path):
    outputs = drawn("binary")
    groups = {name: f"plate {n % 6}" for n, name in enumerate(outputs.sample_id)}
    folders = [
        make_run(
            tmp_path / f"run{n}",
            part(outputs, [row for row in range(40) if row % 6 % 2 == n]),
            metrics=["auroc", "accuracy"],
            groups=groups,
        )
        for n in range(2)
    ]
    folds = Folds("fold", ["0", "1"], np.zeros(0, dtype=np.int64))
    text = summary(fold_results("made", folds, read_runs(folders), [], resamples=50))
    assert "(too few samples)" in next(x for x in text.splitlines() if x.startswith("| auroc"))
    assert "95% intervals of accuracy: Clopper and Pearson (1934)" in text
    assert "No 95% interval of auroc" in text
