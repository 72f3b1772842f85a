from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch

from datasets.cohort.cohort import Cohort
from datasets.cohort.targets import (
    TargetScaler,
    describe_missing,
    match_targets,
    read_targets,
    spread_texts,
    summarise_targets,
)
from datasets.errors import CohortError

VALUES = np.random.default_rng(0).normal([20, -3e4], [5, 7], size=(50, 2))


def table(**columns):
    rows = len(next(iter(columns.values())))
    return pd.DataFrame({"sample_id": [f"s{n}" for n in range(rows)], **columns}, dtype=object)


def refused(columns, task, labels=None, **cells):
    with pytest.raises(CohortError) as caught:
        read_targets(table(**cells), columns, task, labels, "samples.csv")
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("labels", "task"), [(["0", "1", "0"], "binary"), (["0", "1", "2"], "multiclass")]
)
def test_auto_takes_the_classification_that_the_labels_make(labels, task):
    for asked in ("auto", task):
        targets = read_targets(table(label=labels), ["label"], asked, None, "")
        assert targets.task == task
        assert targets.values.tolist() == ["012".index(label) for label in labels]


def test_labels_are_0_and_1_and_missing_ones_left_out():
    cells = {"sepsis": ["1", "0", "", "1.0"], "anaemia": ["0", "0", "1", "1"]}
    targets = read_targets(table(**cells), ["sepsis", "anaemia"], "multilabel", None, "")
    assert targets.names == ["sepsis", "anaemia"]
    assert targets.kept.tolist() == [True, True, False, True]
    assert targets.values[targets.kept].tolist() == [[1, 0], [0, 0], [1, 1]]
    assert targets.values.dtype == np.int64
    assert targets.excluded == {"(missing)": 1}


def test_values_are_precise_and_missing_ones_left_out():
    cells = {"age": ["40.123456789", "NA", "61"], "bmi": ["20", "21", "22"]}
    targets = read_targets(table(**cells), ["bmi", "age"], "regression", None, "")
    assert targets.values[targets.kept].tolist() == [[20.0, 40.123456789], [22.0, 61.0]]
    assert targets.excluded == {"(missing)": 1}


def test_what_does_not_fit_the_task_is_one_clear_line():
    two = {"label": ["control", "case"]}
    assert "task 'regresion' is unknown; did you mean 'regression'?" in refused(
        ["label"], "regresion", **two
    )
    assert "makes 2 classes (control, case), which is task 'binary', not 'multiclass'" in refused(
        ["label"], "multiclass", **two
    )
    assert "label lists 2 columns (a, b); task 'auto' takes one: choose task multilabel" in refused(
        ["a", "b"], "auto", a=["0"], b=["1"]
    )
    assert "labels number classes, but task 'regression' has none" in refused(
        ["label"], "regression", {"a": 1}, **two
    )
    assert "label 'a' of sample 's1' is '2'; 0 or 1, True or False was expected" in refused(
        ["a"], "multilabel", a=["1", "2"]
    )
    assert "label 'a' of sample 's0' is 'yes'; 0 or 1" in refused(["a"], "multilabel", a=["yes"])
    assert "regression target 'label': 'control' of sample 's0' is not a finite number" in refused(
        ["label"], "regression", **two
    )
    assert "regression target 'age': 'inf' of sample 's1' is not a finite number" in refused(
        ["age"], "regression", age=["1", "inf"]
    )
    assert "regression target 'age' is 4 in all 2 samples" in refused(
        ["age"], "regression", age=["4", "4.0"]
    )
    assert "no sample has a value of 'age'" in refused(["age"], "regression", age=["", "NA"])


def test_spreads_are_said_in_a_line():
    assert summarise_targets("multilabel", np.array([[1, 0], [1, 1]]), ["x", "y"]) == "x 2, y 1"
    values = np.array([[1.0, 10.0], [3.0, 10.0]])
    said = summarise_targets("regression", values, ["x", "y"])
    assert said == "x 2 +- 1 (1 to 3), y 10 +- 0 (10 to 10)"


def test_a_regression_cohort_names_what_it_leaves_out(write_cohort, tmp_path):
    roles = {"numeric": ["age", "crp"], "categorical": ["sex"]}
    root = write_cohort(tmp_path / "trial", roles=roles)
    cohort = Cohort.read(root, label="age", task="regression")
    assert cohort.targets.shape == (22, 1)
    assert cohort.class_names == ["age"]
    # The folder's covariates without the target, which would tell itself.
    assert (cohort.numeric, cohort.categorical) == (["crp"], ["sex"])
    assert "003" not in cohort.sample_ids
    for part in ("targets: age ", "left-out labels: (missing) 2", "22 samples"):
        assert part in cohort.describe()


def test_a_cohort_is_read_for_several_labels(write_cohort, tmp_path):
    root = write_cohort(
        tmp_path, samples=lambda s: s.assign(old=(s["age"] > 50) * 1, f=(s["sex"] == "f") * 1)
    )
    cohort = Cohort.read(root, label=["old", "f"], task="multilabel")
    assert cohort.targets.tolist() == cohort.samples[["old", "f"]].astype(int).to_numpy().tolist()
    assert "labels: old " in cohort.describe()


def test_booleans_are_labels_that_are_there_or_not():
    cells = {"sepsis": ["True", "False", "true"], "anaemia": ["FALSE", "1", "TRUE"]}
    targets = read_targets(table(**cells), ["sepsis", "anaemia"], "multilabel", None, "")
    assert targets.values.tolist() == [[1, 0], [0, 1], [1, 1]]
    assert "'yes'; 0 or 1, True or False was expected" in refused(
        ["sepsis"], "multilabel", sepsis=["True", "yes"]
    )


def test_booleans_are_two_classes_however_they_are_spelt():
    for spelt in (["True", "False"], ["true", "false"], ["TRUE", "FALSE"]):
        for labels in (None, {True: 1, False: 0}, {"True": 1, "False": 0}):
            found = read_targets(table(label=spelt), ["label"], "auto", labels, "")
            assert found.values.tolist() == [1, 0]


def test_booleans_are_no_values_to_regress():
    assert "'up' holds True and False; choose task binary" in refused(
        ["up"], "regression", up=["True", "False", "True"]
    )


@pytest.mark.parametrize("task", ["auto", "multilabel", "regression"])
def test_cells_that_hold_no_target_are_told_by_what_stands_there(task):
    cells = ["1", "0", "NA", "None", "", "1"]
    targets = read_targets(table(label=cells), ["label"], task, None, "")
    assert targets.kept.tolist() == [True, True, False, False, False, True]
    assert targets.missing == {"NA": 1, "None": 1, "": 1}
    assert targets.excluded == {"(missing)": 3}
    assert describe_missing(targets.task, targets.missing, 3).endswith(
        ": 3, left out (NA 1, None 1, empty 1)"
    )


def test_standardised_values_have_unit_scale_and_are_restored():
    scaler = TargetScaler().fit(VALUES)
    standardised = scaler.standardize(VALUES)
    assert standardised.dtype == np.float32
    assert standardised.mean(0) == pytest.approx([0, 0], abs=1e-5)
    assert standardised.std(0) == pytest.approx([1, 1], abs=1e-5)
    restored = scaler.restore(torch.from_numpy(standardised))
    np.testing.assert_allclose(restored.numpy(), VALUES, rtol=1e-6)


def test_other_values_are_mapped_as_those_it_was_fitted_on():
    scaler = TargetScaler().fit(np.array([[0.0], [10.0]]))
    assert scaler.standardize(np.array([[20.0]])).tolist() == [[3.0]]


def test_a_target_that_does_not_vary_is_shifted_only():
    scaler = TargetScaler().fit(np.full((4, 1), 7.0))
    assert scaler.standardize(np.array([[7.0], [8.0]])).tolist() == [[0.0], [1.0]]


def test_a_state_is_plain_and_gives_the_same_map():
    scaler, other = TargetScaler().fit(VALUES), TargetScaler()
    state = scaler.state_dict()
    assert all(isinstance(value, float) for values in state.values() for value in values)
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.standardize(VALUES), scaler.standardize(VALUES))


def test_unfitted_it_does_nothing():
    with pytest.raises(RuntimeError, match="fit or load_state_dict comes first"):
        TargetScaler().standardize(VALUES)


def test_large_values_have_the_digits_that_their_spread_shows_in():
    told = spread_texts(np.array([1e8 + 1.25, 1e8 + 3.75]))
    assert told == ["100000002.5", "1.25", "100000001.25", "100000003.75"]


def test_a_scaler_brings_targets_to_unit_spread_and_back():
    scaler = TargetScaler().fit(np.array([[10.0], [30.0]]))
    assert scaler.standardize(np.array([[40.0]])).tolist() == [[2.0]]
    assert scaler.restore(torch.tensor([[2.0]])).tolist() == [[40.0]]


def test_targets_are_matched_with_a_models_classes():
    given = table(label=["x", "", "z", "y"])
    found = match_targets(given, ["label"], "binary", {"x": 1, "y": 0, "z": 0}, "samples.csv")
    assert found.tolist() == [1, -1, 0, 0]
    with pytest.raises(CohortError, match=r"label 'z' of 'label' \(1 samples\) is none of the"):
        match_targets(given, ["label"], "binary", {"x": 1, "y": 0}, "samples.csv")


def test_true_and_false_are_matched_however_they_are_spelled():
    given = table(label=["TRUE", "false"])
    assert match_targets(given, ["label"], "binary", {"True": 1, "False": 0}, "").tolist() == [1, 0]
    given["label"] = ["YES", "no"]
    with pytest.raises(CohortError, match="'YES'"):
        match_targets(given, ["label"], "binary", {"yes": 1, "no": 0}, "")


def test_a_class_may_be_called_like_no_value():
    given = table(label=["NA", "EU"])
    assert match_targets(given, ["label"], "binary", {"NA": 1, "EU": 0}, "").tolist() == [1, 0]


@pytest.mark.parametrize(("task", "empty"), [("multilabel", -1), ("regression", np.nan)])
def test_one_target_that_is_missing_leaves_none(task, empty):
    columns = {"a": ["1", "0", ""], "b": ["0", "1", "1"]}
    given = table(**columns)
    found = match_targets(given, ["a", "b"], task, {}, "samples.csv")
    np.testing.assert_array_equal(found, [[1, 0], [0, 1], [empty, empty]])
