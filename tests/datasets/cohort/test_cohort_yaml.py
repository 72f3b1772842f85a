from __future__ import annotations

from datasets.cohort.cohort_yaml import read_cohort_yaml
from datasets.cohort.roles import Roles
from datasets.cohort.units import read_units


def test_names_are_text_whatever_they_look_like(tmp_path):
    path = tmp_path / "cohort.yaml"
    path.write_text("roles: {label: 2024, group: 010, numeric: [1e3, yes], categorical: [12:30]}\n")
    roles = Roles.choose(tmp_path, None, None, None, None)
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
