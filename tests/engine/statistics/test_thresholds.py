from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from datasets.errors import UsageError
from engine.statistics.threshold_rules import DEFAULT, RULES
from engine.statistics.thresholds import (
    COUNTS,
    choose_threshold,
    figures_at,
    operating_points,
    threshold_table,
)

# Few distinct scores, the ends among them, so that much is tied.
tied_samples = st.lists(
    st.tuples(st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.75, 1.0]), st.booleans()),
    min_size=2,
    max_size=40,
)
# Whatever a probability can be, denormal numbers among them.
any_samples = st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=2, max_size=30)
demands = st.floats(0.01, 0.99)


def both_classes(samples):
    scores = np.array([score for score, _ in samples])
    positive = np.array([is_positive for _, is_positive in samples])
    positive[:2] = True, False
    return scores, positive


def drawn(samples: int = 300, seed: int = 0, apart: float = 0.15) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    positive = rng.random(samples) < 0.4
    scores = np.clip(rng.normal(0.4 + apart * positive, 0.15), 0, 1)
    return scores, positive


def every_cut(scores):
    """A threshold for each way to part the scores, the highest first."""
    return np.append(np.inf, np.unique(scores)[::-1])


REFERENCE = {
    "sensitivity": lambda y, said: sk.recall_score(y, said, zero_division=np.nan),
    "specificity": lambda y, said: sk.recall_score(~y, ~said, zero_division=np.nan),
    "precision": lambda y, said: sk.precision_score(y, said, zero_division=np.nan),
    "npv": lambda y, said: sk.precision_score(~y, ~said, zero_division=np.nan),
    "f1": lambda y, said: sk.f1_score(y, said),
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
}


@pytest.mark.slow
@given(tied_samples, st.floats(0, 1))
def test_the_figures_are_scikit_learns(samples, threshold):
    scores, positive = both_classes(samples)
    found = figures_at(scores, positive, threshold)
    said = scores >= threshold
    for name, reference in REFERENCE.items():
        assert found[name] == pytest.approx(reference(positive, said), nan_ok=True), name
    assert [found[count] for count in ("tn", "fp", "fn", "tp")] == list(
        sk.confusion_matrix(positive, said, labels=[False, True]).ravel()
    )
    if said.any() and not said.all():
        assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(positive, said))
    else:
        assert math.isnan(found["mcc"])


@given(any_samples, st.lists(st.floats(0, 1), max_size=5))
def test_the_table_has_at_each_threshold_the_figures_there(samples, thresholds):
    scores, positive = both_classes(samples)
    thresholds = [*thresholds, *scores, math.inf]  # unsorted, and exactly at scores
    table = threshold_table(scores, positive, np.array(thresholds))
    for row, threshold in enumerate(thresholds):
        found = {name: values[row] for name, values in table.items()}
        assert found == pytest.approx(figures_at(scores, positive, threshold), nan_ok=True)
        assert found["tp"] + found["fp"] == (scores >= threshold).sum()


def test_counts_of_a_large_cohort_do_not_overflow():
    scores, positive = np.linspace(0, 1, 200_000), np.arange(200_000) % 3 == 0
    assert figures_at(scores, positive, 0.5)["mcc"] == pytest.approx(
        sk.matthews_corrcoef(positive, scores >= 0.5), abs=1e-9
    )


@given(tied_samples)
def test_youden_f1_and_cost_are_the_best_there_are_and_of_equals_the_highest(samples):
    scores, positive = both_classes(samples)
    table = threshold_table(scores, positive, every_cut(scores))
    worth = {
        ("youden", None): table["sensitivity"] + table["specificity"],
        ("f1", None): table["f1"],
        ("cost", 1.0): table["accuracy"],
        ("cost", 4.0): -(4 * table["fn"] + table["fp"]),
        ("cost", 0.25): -(table["fn"] + 4 * table["fp"]),
    }
    for (rule, demand), values in worth.items():
        found = figures_at(scores, positive, choose_threshold(scores, positive, rule, demand))
        called = found["tp"] + found["fp"]
        best = np.isclose(values, np.nanmax(values), rtol=0, atol=1e-12)
        assert called == (table["tp"] + table["fp"])[best].min(), rule


@given(any_samples, demands)
def test_a_demand_is_never_violated_where_it_was_chosen_and_cannot_be_met_better(samples, demand):
    scores, positive = both_classes(samples)
    positives, negatives = positive.sum(), (~positive).sum()
    table = threshold_table(scores, positive, every_cut(scores))

    found = figures_at(scores, positive, choose_threshold(scores, positive, "recall", demand))
    assert found["tp"] / positives >= demand
    meets = table["tp"] / positives >= demand
    assert found["fp"] == table["fp"][meets].min()

    found = figures_at(scores, positive, choose_threshold(scores, positive, "fpr", demand))
    assert found["fp"] / negatives <= demand
    meets = table["fp"] / negatives <= demand
    assert found["tp"] == table["tp"][meets].max()


@given(any_samples)
def test_the_strictest_demands_are_met_too(samples):
    scores, positive = both_classes(samples)
    everyone = figures_at(scores, positive, choose_threshold(scores, positive, "recall", 1))
    assert everyone["fn"] == 0
    none_wrong = figures_at(scores, positive, choose_threshold(scores, positive, "fpr", 0))
    assert none_wrong["fp"] == 0


@pytest.mark.parametrize("rule", RULES)
def test_a_threshold_is_midway_between_two_scores(rule):
    scores, positive = drawn()
    threshold = choose_threshold(scores, positive, rule)
    known = np.sort(np.append(scores, [0, 1]))
    place = np.searchsorted(known, threshold)
    assert threshold == pytest.approx((known[place - 1] + known[place]) / 2, abs=1e-12)


def test_where_the_classes_are_apart_the_threshold_is_in_the_middle_of_the_gap():
    scores, positive = np.array([0.1, 0.2, 0.8, 0.9]), np.array([False, False, True, True])
    for rule in ("youden", "f1", "recall", "cost"):
        assert choose_threshold(scores, positive, rule) == pytest.approx(0.5), rule


def test_the_dearer_a_miss_the_lower_the_threshold():
    scores, positive = drawn()
    chosen = [choose_threshold(scores, positive, "cost", cost) for cost in (0.1, 1, 3, 1000)]
    assert chosen == sorted(chosen, reverse=True)
    assert len(set(chosen)) == 4
    assert figures_at(scores, positive, chosen[-1])["fn"] == 0


def test_the_order_of_the_samples_changes_nothing():
    scores, positive = drawn()
    mixed = np.random.default_rng(1).permutation(len(scores))
    for rule in RULES:
        assert choose_threshold(scores, positive, rule) == choose_threshold(
            scores[mixed], positive[mixed], rule
        )


def test_nobody_is_called_positive_where_a_negative_scores_1_and_no_false_alarm_is_allowed():
    scores, positive = np.array([1.0, 0.5, 0.2]), np.array([False, True, False])
    assert choose_threshold(scores, positive, "fpr", 0.0) == math.inf


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("positive", [[], [True, True], [False, False]])
def test_with_one_class_there_is_no_threshold_and_no_figure(rule, positive):
    scores, labels = np.linspace(0.2, 0.8, len(positive)), np.array(positive, dtype=bool)
    assert math.isnan(choose_threshold(scores, labels, rule))
    (point, *_) = operating_points(scores, labels, *drawn(), rule)
    assert all(math.isnan(value) for value in (*point.val.values(), *point.test.values()))


def test_one_class_leaves_undefined_what_is_a_share_of_the_other():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = figures_at(np.array([0.9, 0.1]), np.array([True, True]), 0.5)
    undefined = {name for name, value in found.items() if math.isnan(value)}
    assert undefined == {"specificity", "balanced_accuracy", "mcc"}
    assert (found["sensitivity"], found["npv"], found["fn"]) == (0.5, 0.0, 1)


def test_half_is_the_threshold_that_takes_no_data():
    assert choose_threshold(np.array([]), np.array([], dtype=bool), DEFAULT) == 0.5


def test_the_chosen_rule_comes_first_then_each_of_the_others_once():
    points = operating_points(*drawn(), *drawn(seed=1), "recall", 0.8)
    assert points[0].name == "recall >= 0.8"
    assert sorted(point.rule for point in points) == sorted([*RULES, DEFAULT])
    assert points[-1].name == DEFAULT
    assert [p.demand for p in points if p.rule in ("fpr", "cost")] == [0.1, 1.0]
    first = operating_points(*drawn(), *drawn(seed=1), DEFAULT)[0]
    assert (first.rule, first.demand, first.threshold) == (DEFAULT, None, 0.5)


def test_the_test_side_chooses_nothing_and_is_measured():
    val, test = drawn(), drawn(seed=1, apart=0.4)
    for point in operating_points(*val, *test):
        assert point.threshold == choose_threshold(*val, point.rule, point.demand)
        assert point.val == figures_at(*val, point.threshold)
        assert point.test == figures_at(*test, point.threshold)
        assert point.test["accuracy"] > point.val["accuracy"]


def test_figures_are_plain_numbers_and_counts_whole_ones():
    found = figures_at(*drawn(), 0.5)
    assert all(type(found[name]) is (int if name in COUNTS else float) for name in found)


@pytest.mark.parametrize(
    ("scores", "positive", "message"),
    [
        ([0.5, 1.5], [True, False], "probabilities from 0 to 1"),
        ([0.5, math.nan], [True, False], "probabilities from 0 to 1"),
        ([0.5], [True, False], "expected one of each a sample"),
        ([[0.5]], [[True]], "expected one of each a sample"),
    ],
)
def test_what_is_no_probability_is_refused(scores, positive, message):
    for use in (choose_threshold, lambda of, labels: figures_at(of, labels, 0.5)):
        with pytest.raises(UsageError, match=message):
            use(np.array(scores), np.array(positive))


def test_a_table_at_no_number_is_refused():
    with pytest.raises(UsageError, match="thresholds: a number was expected"):
        threshold_table(*drawn(), np.array([0.1, math.nan]))
