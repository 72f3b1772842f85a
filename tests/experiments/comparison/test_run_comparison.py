from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.stats import binomtest, norm
from sklearn.metrics import mean_absolute_error, roc_auc_score

from datasets.errors import UsageError
from engine.metrics import TASKS, by_target
from experiments.comparison.comparison_page import comparison_table
from experiments.comparison.run_comparison import compare_runs
from experiments.run_files import read_runs
from tests.experiments.made_runs import ENVIRONMENT, drawn, make_run

pytestmark = pytest.mark.slow


@pytest.fixture
def compare(tmp_path):
    """Compare runs that are made of outputs: ``compare(a=outputs, b=(outputs, settings))``."""

    def of(resamples=200, **made):
        folders = []
        for name, given in made.items():
            outputs, settings = given if isinstance(given, tuple) else (given, {})
            folders.append(make_run(tmp_path / name, outputs, **settings))
        return compare_runs(read_runs(folders), resamples)

    return of


def some(outputs, rows):
    """The same of some samples."""
    rows = list(rows)
    return replace(
        outputs,
        logits=outputs.logits[rows],
        target=outputs.target[rows],
        sample_id=[outputs.sample_id[row] for row in rows],
    )


# -- figures ----------------------------------------------------------------------------------


@pytest.mark.parametrize("task", TASKS)
def test_runs_of_every_task_are_compared_metric_by_metric(compare, task):
    found = compare(a=drawn(task), b=drawn(task, seed=1, skill=4))
    assert (found.task, found.samples, found.recomputed) == (task, 40, False)
    assert found.metrics == by_target(TASKS[task].metrics, drawn(task).targets)
    for name in found.metrics:
        a, b = (figures[name].value for figures in found.figures)
        apart = found.differences[0][name]
        assert apart.value == pytest.approx(b - a, rel=1e-5)
        assert apart.low <= apart.value <= apart.high
    judged = {"binary": (True, True), "multiclass": (False, True)}.get(task, (False, False))
    assert (len(found.delong) == 1, len(found.mcnemar) == 1) == judged


def test_on_one_test_set_figures_are_the_runs_own(compare, tmp_path):
    found = compare(a=drawn("binary"), b=(drawn("binary", 1), {"report__resamples": 0}))
    for run, figures in zip(found.runs, found.figures, strict=True):
        assert figures == {name: run.test_figure(name) for name in found.metrics}
    assert not math.isnan(found.figures[0]["auroc"].low)
    assert math.isnan(found.figures[1]["auroc"].low)


def test_a_metric_of_one_run_is_computed_for_all(compare):
    found = compare(
        a=(drawn("binary"), {"metrics": ["auroc"]}),
        b=(drawn("binary", 1), {"metrics": ["brier", "auroc"]}),
    )
    assert found.metrics == ["auroc", "brier"]
    scores, target = found.runs[0].outputs.scores[:, 1], found.runs[0].outputs.target
    brier = float((scores - target).square().mean())
    assert found.figures[0]["brier"].value == pytest.approx(brier)
    assert "brier" in found.differences[0]


def test_without_comparable_metrics_the_usual_ones_are_taken(compare):
    alone = {"metrics": ["modality_agreement"]}
    found = compare(a=(drawn("binary"), alone), b=(drawn("binary", 1), alone))
    assert found.metrics == list(TASKS["binary"].metrics)
    assert 0 < found.figures[0]["auroc"].value < 1


def test_other_test_sides_are_compared_on_what_they_share(compare):
    a, b = drawn("binary"), drawn("binary", 1)
    found = compare(a=some(a, range(30)), b=some(b, range(39, 9, -1)))
    names = [f"s{number}" for number in range(10, 30)]
    assert (found.samples, found.tested, found.recomputed) == (20, [30, 30], True)
    for run, outputs, figures in zip(found.runs, (a, b), found.figures, strict=True):
        assert run.outputs.sample_id == names
        true, by = outputs.target[10:30], outputs.probabilities[10:30, 1]
        auroc = figures["auroc"]
        assert auroc.value == pytest.approx(roc_auc_score(true.numpy(), by.numpy()))
        assert auroc.value != pytest.approx(run.test_figure("auroc").value, abs=1e-3)
        assert auroc.low < auroc.value < auroc.high
    assert any("test sets differ (a: 30, b: 30)" in note for note in found.notes)
    assert any("figures are recomputed on the 20 shared samples" in note for note in found.notes)


def test_runs_are_measured_on_the_shared_samples(compare):
    found = compare(a=some(drawn("regression"), range(25)), b=drawn("regression", 1))
    b = found.runs[1].outputs
    assert found.samples == 25
    assert found.figures[1]["mae[BMI]"].value == pytest.approx(
        mean_absolute_error(b.target.numpy()[:, 1], b.predictions.numpy()[:, 1])
    )
    assert any("(b: 40)" in note for note in found.notes)


# -- paired tests -----------------------------------------------------------------------------


def delong_by_hand(positive_a, negative_a, positive_b, negative_b):
    """DeLong 1988, pair by pair."""

    def wins(positive, negative):
        above = positive[:, None] > negative[None, :]
        return above + 0.5 * (positive[:, None] == negative[None, :])

    a, b = wins(positive_a, negative_a), wins(positive_b, negative_b)
    by_positive = np.cov(a.mean(axis=1), b.mean(axis=1))
    by_negative = np.cov(a.mean(axis=0), b.mean(axis=0))
    s = by_positive / len(positive_a) + by_negative / len(negative_a)
    variance = s[0, 0] + s[1, 1] - 2 * s[0, 1]
    apart = a.mean() - b.mean()
    return apart, variance**0.5


def test_delong_holds_each_run_against_the_first(compare):
    runs = {"first": drawn("binary"), "second": drawn("binary", 1), "third": drawn("binary", 2, 3)}
    found = compare(**runs)
    positive = runs["first"].target.numpy() == 1
    scores = {name: outputs.probabilities[:, 1].numpy() for name, outputs in runs.items()}
    for name, test in zip(("second", "third"), found.delong, strict=True):
        pair = (scores[name], scores["first"])
        parts = (s for scores in pair for s in (scores[positive], scores[~positive]))
        apart, error = delong_by_hand(*parts)
        reach = norm.ppf(0.975) * error
        assert test.difference == pytest.approx(apart)
        assert (test.low, test.high) == pytest.approx((apart - reach, apart + reach))
        assert test.p_value == pytest.approx(2 * norm.sf(abs(apart) / error))


def test_mcnemar_counts_who_alone_is_right(compare):
    a, b = drawn("multiclass"), drawn("multiclass", 1, 3)
    (test,) = compare(a=a, b=b).mcnemar
    right_a, right_b = ((o.logits.argmax(dim=1) == o.target).numpy() for o in (a, b))
    only_b, only_a = (right_b & ~right_a).sum(), (right_a & ~right_b).sum()
    assert only_b > only_a > 0
    assert (test.only_a, test.only_b) == (only_b, only_a)
    expected = binomtest(only_a, only_a + only_b, 0.5).pvalue
    assert test.p_value == pytest.approx(expected)


def test_mcnemar_judges_the_decisions_that_were_written(tmp_path):
    folders = [make_run(tmp_path / name, drawn("binary", n)) for n, name in enumerate("ab")]
    table = pd.read_csv(folders[1] / "predictions.csv")
    table.assign(prediction=table["target"]).to_csv(folders[1] / "predictions.csv", index=False)
    (test,) = compare_runs(read_runs(folders), 100).mcnemar
    assert test.only_b == 0
    assert test.only_a == (drawn("binary").predictions != drawn("binary").target).sum()


def test_p_values_are_corrected_separately_for_each_test(compare):
    runs = {name: drawn("binary", n, 1 + n) for n, name in enumerate("abc")}
    table = comparison_table(compare(**runs))[1:]
    for test in ("delong_p", "mcnemar_p"):
        p = list(table[test])
        least, most = min(p), max(p)
        expected = [min(1, 2 * least) if v == least else max(most, min(1, 2 * least)) for v in p]
        assert list(table[f"{test}_holm"]) == pytest.approx(expected)
    alone = comparison_table(compare(d=drawn("binary"), e=drawn("binary", 1)))
    assert alone["delong_p_holm"][1] == alone["delong_p"][1]


def test_the_bootstrap_draws_the_groups_of_the_split(compare):
    groups = {f"s{number}": f"p{number // 8}" for number in range(40)}
    a, b = drawn("binary"), drawn("binary", 1, 2)
    # Groups whose samples are all judged alike vary more than as many single samples.
    b = replace(
        b, logits=b.logits + 2 * torch.tensor([[0.0, float(n // 8 % 2)] for n in range(40)])
    )
    grouped = compare(a=(a, {"groups": groups}), b=(b, {"groups": groups}))
    single = compare(c=a, d=b)
    assert (grouped.groups, single.groups) == (5, 40)
    names = ("accuracy", "auroc")
    for name in names:
        x, y = grouped.differences[0][name], single.differences[0][name]
        assert x.value == y.value
        assert (x.low, x.high) != (y.low, y.high)
    assert any("samples are of 5 groups" in note for note in grouped.notes)
    assert not any("groups" in note for note in single.notes)


def test_of_one_group_no_interval_can_be_told_and_that_is_said(compare):
    groups = {f"s{number}": "all" for number in range(40)}
    found = compare(
        a=(drawn("binary"), {"groups": groups}), b=(drawn("binary", 1), {"groups": groups})
    )
    assert math.isnan(found.differences[0]["auroc"].low)
    assert any("of one group" in note for note in found.notes)


# -- what is said -----------------------------------------------------------------------------


def test_the_best_is_named_where_validation_is_shared(compare):
    def best(**made):
        return [note for note in compare(**made).notes if "Best on validation" in note]

    a, b = drawn("regression"), drawn("regression", 1)
    rmse = {"checkpoint__monitor": "val/rmse"}
    (said,) = best(a=(a, {"best": 0.8, **rmse}), b=(b, {"best": 0.7, **rmse}))
    assert said == "Best on validation (choose by this): b, val/rmse 0.7000."
    auroc = {"checkpoint__monitor": "val/auroc"}
    c, d = drawn("binary"), drawn("binary", 1)
    (said,) = best(c=(c, {"best": 0.8, **auroc}), d=(d, {"best": 0.7, **auroc}))
    assert said == "Best on validation (choose by this): c, val/auroc 0.8000."
    assert best(e=c, f=(d, {"val": ["v1", "v3"]})) == []
    assert best(g=c, h=(d, {"checkpoint__monitor": "val/accuracy"})) == []


def test_runs_of_another_cohort_are_compared_with_a_warning(compare):
    other = {**ENVIRONMENT["data"], "spectra.npy": "c" * 64, "cohort.yaml": "d" * 64}
    found = compare(a=drawn("binary"), b=(drawn("binary", 1), {"environment": {"data": other}}))
    assert found.warnings == ["b is of another cohort than a: cohort.yaml, spectra.npy differ."]
    assert compare(c=drawn("binary"), d=drawn("binary", 1)).warnings == []


def test_other_groups_are_warned_of(compare):
    groups = {f"s{number}": f"p{number // 8}" for number in range(40)}
    found = compare(a=(drawn("binary"), {"groups": groups}), b=drawn("binary", 1))
    assert found.warnings == ["b has other groups than a: the bootstrap uses those of a."]
    assert found.groups == 5


# -- what cannot be compared ------------------------------------------------------------------


def other_names(outputs, *names):
    return outputs, {"names": names}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ({"a": drawn("binary")}, "takes two runs or more, 1 given"),
        (
            {"a": drawn("binary"), "b": drawn("regression")},
            "only runs of one task can be compared: a is binary, b is regression",
        ),
        (
            {"a": drawn("binary"), "b": other_names(drawn("binary"), "case", "control")},
            "same classes can be compared: a has control, case; b has case, control",
        ),
        (
            {
                "a": drawn("regression"),
                "b": (
                    drawn("regression"),
                    {"names": ["age", "ALT"], "data__label": ["age", "ALT"]},
                ),
            },
            "same columns can be compared: a has age, BMI; b has age, ALT",
        ),
        (
            {"a": some(drawn("binary"), range(20)), "b": some(drawn("binary"), range(20, 40))},
            r"0 test samples in common, at least 2 are needed \(a: 20, b: 20\)",
        ),
        (
            {"a": some(drawn("binary"), range(20)), "b": some(drawn("binary"), range(19, 40))},
            r"1 test samples in common, at least 2 are needed \(a: 20, b: 21\)",
        ),
        (
            {
                "a": drawn("binary"),
                "b": replace(drawn("binary"), target=1 - drawn("binary").target),
            },
            "sample 's0' and 39 more have another target in b than in a: .*different cohorts",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused_in_a_line(compare, made, words):
    with pytest.raises(UsageError, match=words) as refused:
        compare(**made)
    assert "\n" not in str(refused.value)
