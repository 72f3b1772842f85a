from __future__ import annotations

from typing import Any

import pytest

from datasets.cohort.cohort import Cohort
from datasets.cohort.roles import Roles, read_cohort_yaml, read_units
from datasets.simulation import UNITS


def test_a_mapping_joins_labels_and_counts_the_left_out(write_cohort, tmp_path):
    root = write_cohort(tmp_path, samples=lambda s: s.assign(label=s["label"].where(s.index > 0)))
    cohort = Cohort.read(root, labels={"C": 1, "A": 0, "B": 0})
    assert cohort.class_names == ["A+B", "C"]
    assert cohort.excluded == {"(missing)": 1}
    cohort = Cohort.read(root, labels={"B": 1, "A": 0})
    assert cohort.class_names == ["A", "B"]
    assert cohort.excluded == {"(missing)": 1, "C": 6}
    assert len(cohort.samples) == len(cohort.targets) == len(cohort.scan_rows) == 17
    assert "000" not in cohort.sample_ids
    assert set(cohort.samples["label"]) == {"A", "B"}


def test_labels_may_be_numbers(write_cohort, tmp_path):
    root = write_cohort(
        tmp_path, samples=lambda s: s.assign(label=[[10, 9, 2][i % 3] for i in s.index])
    )
    assert Cohort.read(root).class_names == ["2", "9", "10"]
    cohort = Cohort.read(root, labels={10: 0, "9": 1})
    assert cohort.class_names == ["10", "9"]
    assert cohort.excluded == {"2": 8}


def test_a_missing_label_is_a_class_only_where_it_is_named(write_cohort, tmp_path, refusal):
    root = write_cohort(tmp_path, samples=lambda s: s.assign(label=["NA", "B"] * 12))
    assert Cohort.read(root, labels={"NA": 0, "B": 1}).class_names == ["NA", "B"]
    assert "leaves 1 class" in refusal(root)


def test_roles_of_the_folder_are_the_defaults(write_cohort, tmp_path):
    roles = {"label": "sex", "group": "sample_id", "numeric": ["crp"], "categorical": ["label"]}
    root = write_cohort(tmp_path, roles=roles)
    cohort = Cohort.read(root, labels={"f": 0, "m": 1})
    assert cohort.class_names == ["f", "m"]
    assert cohort.groups.tolist() == cohort.sample_ids
    assert (cohort.numeric, cohort.categorical) == (["crp"], ["label"])
    chosen = Cohort.read(root, label="label", group="group", numeric=[], categorical=["sex"])
    assert chosen.class_names == ["A", "B", "C"]
    assert (chosen.numeric, chosen.categorical) == ([], ["sex"])


def test_without_roles_there_are_no_covariates(write_cohort, tmp_path):
    cohort = Cohort.read(write_cohort(tmp_path))
    assert (cohort.numeric, cohort.categorical) == ([], [])


def test_without_a_column_of_groups_each_sample_is_its_own(write_cohort, tmp_path):
    root = write_cohort(tmp_path, samples=lambda s: s.drop(columns="group"))
    cohort = Cohort.read(root)
    assert cohort.groups.tolist() == cohort.sample_ids
    assert "no column of groups: each sample is a group of its own" in cohort.describe()


REFUSED_CHOICES: dict[str, dict[str, Any]] = {
    "no numeric covariate 'agee'; did you mean 'age'?": {"numeric": ["agee"]},
    "no categorical covariate 'sexe'; did you mean 'sex'?": {"categorical": ["sexe"]},
    "no label column 'labl'; did you mean 'label'?": {"label": "labl"},
    "no group column 'grop'; did you mean 'group'?": {"group": "grop"},
    "numeric covariate 'sex'": {"numeric": ["sex"]},
    "'label' is the label column": {"categorical": ["label"]},
    "'group' is the group column": {"categorical": ["group"]},
    "'sample_id' is the sample_id column": {"numeric": ["sample_id"]},
    "'age' is listed more than once": {"numeric": ["age"], "categorical": ["age"]},
    "numeric is 'age'; a list": {"numeric": "age"},
    "cannot be the label and the group": {"label": "group"},
    "label column 'age' is listed more than once": {"label": ["age", "age"]},
    "no label column 'aage'; did you mean 'age'?": {"label": ["age", "aage"]},
    "label is []; a column's name, or a list of them": {"label": []},
    "'crp' is the label column": {
        "label": ["age", "crp"],
        "numeric": ["crp"],
        "task": "regression",
    },
    "label 'Aa' does not occur": {"labels": {"Aa": 0, "B": 1}},
    "'A', 'B' kept leaves 1 class, at least 2 are needed (labels: A, B, C)": {
        "labels": {"A": 1, "B": 1}
    },
    "'A' kept leaves 1 class": {"labels": {"A": 0}},
    "no label kept leaves 0 classes": {"labels": {}},
    "class numbers 0, 2; 0 to 1 without a gap": {"labels": {"A": 0, "B": 2}},
    "class numbers -1, 0;": {"labels": {"A": -1, "B": 0}},
    "label 'A' has class '0'; a whole number": {"labels": {"A": "0", "B": 1}},
    "label 'B' has class True; a whole number": {"labels": {"A": 0, "B": True}},
}


@pytest.mark.parametrize("message", REFUSED_CHOICES)
def test_a_choice_that_does_not_fit_is_refused(write_cohort, tmp_path, message, refusal):
    root = write_cohort(tmp_path)
    assert message in refusal(root, **REFUSED_CHOICES[message])


@pytest.mark.parametrize(
    ("content", "message"),
    [("roles: [", "cannot be read as YAML"), ("roles: [group]", "'roles' with group, label")],
)
def test_an_unreadable_description_is_refused(write_cohort, tmp_path, content, message, refusal):
    root = write_cohort(tmp_path)
    (root / "cohort.yaml").write_text(content)
    assert message in refusal(root)


def test_names_are_text_whatever_they_look_like(tmp_path):
    path = tmp_path / "cohort.yaml"
    path.write_text("roles: {label: 2024, group: 010, numeric: [1e3, yes], categorical: [12:30]}\n")
    roles = Roles.choose(tmp_path, [], None, None, None, None)
    assert (roles.label, roles.group) == (["2024"], "010")
    assert (roles.numeric, roles.categorical) == (["1e3", "yes"], ["12:30"])


def test_units_and_the_licence_are_text(tmp_path):
    path = tmp_path / "cohort.yaml"
    path.write_text("licence: 2024-01-15\nunits: {010: 1, age: no}\n")
    assert read_units(tmp_path) == {"010": "1", "age": "no"}
    assert read_cohort_yaml(path)["licence"] == "2024-01-15"


def test_null_and_an_absent_value_stay_none(tmp_path):
    path = tmp_path / "cohort.yaml"
    path.write_text("roles: {label: null, group: ~}\nlicence:\n")
    assert read_cohort_yaml(path) == {"roles": {"label": None, "group": None}, "licence": None}


def test_a_simulated_cohorts_units_are_read(tmp_path):
    from datasets.simulation import simulate_cohort

    units = read_units(simulate_cohort(tmp_path / "cohort", 0, n_samples=30, spec_len=64).root)
    assert units["axis"] == "m/z"
    assert {name: units[name] for name in UNITS} == UNITS


@pytest.mark.parametrize(
    "text", [None, "", "name: a cohort", "units: none are known", "- a", "units: {axis: }"]
)
def test_a_cohort_that_does_not_say_has_none(tmp_path, text):
    if text is not None:
        (tmp_path / "cohort.yaml").write_text(text)
    assert read_units(tmp_path) == {}
