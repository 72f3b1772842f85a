from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics as sk

from datasets.errors import UsageError
from engine.statistics.thresholds import (
    COUNTS,
    DEFAULT,
    RULES,
    check_demand,
    check_rule,
    choose_threshold,
    cut,
    figures_at,
    operating_points,
    threshold_table,
)

TAKE_NONE = ("youden", "f1", DEFAULT)


def test_an_unknown_rule_is_refused_with_the_nearest():
    with pytest.raises(UsageError, match="'yuden'; did you mean 'youden'"):
        check_rule("yuden")


@pytest.mark.parametrize("rule", [*RULES, DEFAULT])
def test_the_usual_demand_is_one_that_the_rule_takes(rule):
    usual = check_demand(rule, None)
    assert (usual is None) == (rule in TAKE_NONE)
    assert check_demand(rule, usual) == usual


@pytest.mark.parametrize("rule", TAKE_NONE)
def test_a_demand_on_a_rule_that_takes_none_is_refused(rule):
    with pytest.raises(UsageError, match=f"the rule '{rule}' takes no demand"):
        check_demand(rule, 0.5)


@pytest.mark.parametrize(
    ("rule", "demands"),
    [
        ("recall", [0, 1.01, -0.5, math.nan, math.inf]),
        ("fpr", [1, -0.01, math.nan]),
        ("cost", [0, -1, math.inf, math.nan]),
    ],
)
def test_a_demand_out_of_range_is_refused(rule, demands):
    for demand in demands:
        with pytest.raises(UsageError, match=f"the rule '{rule}' takes a ") as error:
            check_demand(rule, demand)
        assert "\n" not in str(error.value)


def test_the_ends_of_the_range_are_taken():
    assert check_demand("recall", 1) == 1
    assert check_demand("fpr", 0) == 0


def test_each_cut_parts_the_scores_where_its_counts_say():
    scores = np.array([0.0, 0.2, 0.2, 0.7, 0.7, 1.0])
    positive = np.array([False, True, False, True, True, False])
    cuts = cut(scores, positive)
    assert len(cuts.threshold) == 5  # four distinct scores
    for threshold, true, false in zip(cuts.threshold, cuts.true, cuts.false, strict=True):
        assert true == (positive & (scores >= threshold)).sum()
        assert false == (~positive & (scores >= threshold)).sum()
    assert (cuts.positives, cuts.negatives) == (3, 3)
    assert cuts.threshold == pytest.approx([math.inf, 0.85, 0.45, 0.1, 0.0])


def test_neighbouring_floating_point_numbers_are_still_parted():
    low = 0.3
    high = float(np.nextafter(low, 1))
    cuts = cut(np.array([low, high]), np.array([False, True]))
    assert list(cuts.true + cuts.false) == [0, 1, 2]
    assert low < cuts.threshold[1] <= high


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_says_what_it_chooses_and_how_it_is_written(rule):
    assert RULES[rule].aim
    assert RULES[rule].form.format(RULES[rule].usual).startswith(rule)


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
    "sensitivity": lambda y, predicted: sk.recall_score(y, predicted, zero_division=np.nan),
    "specificity": lambda y, predicted: sk.recall_score(~y, ~predicted, zero_division=np.nan),
    "precision": lambda y, predicted: sk.precision_score(y, predicted, zero_division=np.nan),
    "npv": lambda y, predicted: sk.precision_score(~y, ~predicted, zero_division=np.nan),
    "f1": lambda y, predicted: sk.f1_score(y, predicted),
    "accuracy": sk.accuracy_score,
    "balanced_accuracy": sk.balanced_accuracy_score,
}


@pytest.mark.slow
@given(tied_samples, st.floats(0, 1))
def test_the_figures_are_scikit_learns(samples, threshold):
    scores, positive = both_classes(samples)
    found = figures_at(scores, positive, threshold)
    predicted = scores >= threshold
    for name, reference in REFERENCE.items():
        assert found[name] == pytest.approx(reference(positive, predicted), nan_ok=True), name
    assert [found[count] for count in ("tn", "fp", "fn", "tp")] == list(
        sk.confusion_matrix(positive, predicted, labels=[False, True]).ravel()
    )
    if predicted.any() and not predicted.all():
        assert found["mcc"] == pytest.approx(sk.matthews_corrcoef(positive, predicted))
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
def test_rules_choose_the_best_threshold_the_highest_of_equals(samples):
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
def test_a_demand_is_met_as_closely_as_possible(samples, demand):
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


def test_separated_classes_have_the_threshold_between_them():
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


def test_no_positive_is_predicted_if_a_negative_scores_1():
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


def test_the_chosen_rule_comes_first_then_the_others():
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


def test_a_rule_has_a_usual_demand_or_none():
    assert check_demand("recall", None) == 0.9
    assert check_demand("recall", 0.95) == 0.95
    assert check_demand("youden", None) is None


def test_thresholds_lie_midway_between_scores():
    cuts = cut(np.array([0.9, 0.3, 0.3]), np.array([True, True, False]))
    assert cuts.threshold.tolist() == pytest.approx([0.95, 0.6, 0.15])


def test_figures_stand_at_their_thresholds():
    scores, positive = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
    table = threshold_table(scores, positive, np.array([0.2, 0.5, 1.0]))
    assert table["sensitivity"].tolist() == [1.0, 0.5, 0.0]


def test_a_recall_is_reached_midway_below_a_positive():
    scores, positive = np.array([0.9, 0.8, 0.3, 0.1]), np.array([True, False, True, False])
    assert choose_threshold(scores, positive, "recall", 0.9) == pytest.approx(0.2)
