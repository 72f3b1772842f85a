from __future__ import annotations

import pandas as pd
import pytest
import yaml

from datasets.cohort.targets import about_positive, labels_text, negative_first, number_classes
from datasets.errors import CohortError


@pytest.mark.parametrize(
    ("negative", "positive"),
    [
        ("control", "case"),
        ("healthy", "HCC"),
        ("Healthy controls", "Cancer"),
        ("healthy_donor", "AML"),
        ("Normal", "Disease"),
        ("NEG", "POS"),
        ("benign", "malignant"),
        ("no", "yes"),
        ("false", "true"),
        ("False", "True"),
        ("wild type", "mutant"),
        ("wild-type", "KO"),
        ("WT", "KRAS"),
        ("susceptible", "resistant"),
        ("non-responder", "responder"),
        ("nonresponder", "responder"),
        ("no disease", "disease"),
        ("infected", "uninfected")[::-1],
        ("S", "R"),
        ("HC", "AD"),
        ("negative control", "positive control"),
        ("0", "1"),
        ("-1", "1"),
        ("9", "10"),
        ("0.0", "1.0"),
    ],
)
def test_a_word_or_a_number_says_which_class_is_negative(negative, positive):
    for labels in ([negative, positive], [positive, negative]):
        assert negative_first(labels) == [negative, positive]
        targets, names, _ = number_classes(pd.Series(labels), None, "samples.csv")
        assert names == [negative, positive]
        assert targets.tolist() == [names.index(label) for label in labels]


@pytest.mark.parametrize(
    "labels",
    [
        ("HCC", "LC"),
        ("A", "B"),
        ("M", "F"),
        ("control", "healthy"),
        ("non-small cell", "small cell lung"),
        ("triple negative", "luminal"),
        ("N", "S"),
        ("1", "1.0"),
        ("1", "case"),
        ("uncontrolled", "controlled"),
    ],
)
def test_where_nothing_says_it_the_line_to_type_is_shown(labels):
    with pytest.raises(CohortError, match="do not say which is the positive class") as caught:
        number_classes(pd.Series(labels), None, "samples.csv")
    shown = str(caught.value).partition("--data.labels '")[2].rpartition("'")[0]
    mapping = {str(name): number for name, number in yaml.safe_load(shown).items()}
    assert sorted(mapping.values()) == [0, 1]
    assert set(mapping) == set(labels)
    number_classes(pd.Series(labels), mapping, "samples.csv")


def test_the_line_to_type_is_exact():
    with pytest.raises(CohortError, match=r"--data\.labels '\{HCC: 1, LC: 0\}'$"):
        number_classes(pd.Series(["LC", "HCC"]), None, "samples.csv")
    assert labels_text(["no", "1"]) == '{"no": 1, "1": 0}'


def test_a_mapping_has_the_word_whatever_the_labels_are_called():
    _, names, _ = number_classes(pd.Series(["control", "case"]), {"control": 1, "case": 0}, "")
    assert names == ["case", "control"]


def test_three_labels_are_classes_in_their_order():
    _, names, _ = number_classes(pd.Series(["b", "control", "a"]), None, "")
    assert names == ["a", "b", "control"]


def test_only_a_binary_task_has_a_positive_class():
    assert about_positive("binary", ["LC", "HCC"]).startswith("positive class: HCC (sensitivity")
    assert about_positive("multiclass", ["a", "b", "c"]) == ""
    assert about_positive("multilabel", ["liver", "heart"]) == ""


def test_labels_are_quoted_only_where_yaml_needs_it():
    assert labels_text(["HCC", "LC"]) == "{HCC: 1, LC: 0}"
    assert labels_text(["yes", "a: b"]) == '{"yes": 1, "a: b": 0}'
