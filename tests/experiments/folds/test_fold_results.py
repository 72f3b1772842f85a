from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from datasets.errors import UsageError
from datasets.splits import Folds
from engine.metrics import EpochOutputs
from experiments.folds.fold_results import fold_results, pool_outputs, spread_of
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


def test_figures_are_the_runs_own_and_their_spread_is_that_over_folds(made):
    _, runs = made(metrics=["accuracy", "brier"])
    results = fold_results("made", folds(4), runs, resamples=0)
    for metric in ("accuracy", "brier"):
        own = [run.test_figure(metric).value for run in runs]
        assert [figures[metric] for figures in results.figures] == own
        spread = results.spread[metric]
        assert spread.defined == 4
        assert spread.mean == pytest.approx(np.mean(own))
        assert spread.deviation == pytest.approx(np.std(own, ddof=1))
        assert spread.median == pytest.approx(np.median(own))


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


def test_undefined_figures_are_left_out_of_the_spread():
    assert spread_of([math.nan, 0.5, 0.7]).defined == 2
    none = spread_of([math.nan])
    assert (none.defined, math.isnan(none.mean), math.isnan(none.median)) == (0, True, True)
    one = spread_of([0.5])
    assert (one.mean, one.median, math.isnan(one.deviation)) == (0.5, 0.5, True)
