from __future__ import annotations

import pytest

from datasets.errors import CohortError
from datasets.importing.covariate_join import CovariateTable
from datasets.importing.import_roles import ImportRoles

TABLE = CovariateTable(["age", "sex"], {"S1": {"age": "61", "sex": "f"}})


def test_columns_of_files_and_table_can_have_roles():
    roles = ImportRoles("diagnosis", "plate", ("age",), ("sex",))
    roles.check(["diagnosis", "plate"], TABLE)
    assert roles.decisive() == ["diagnosis", "plate"]
    assert roles.plain(["diagnosis", "plate", "age", "sex"]) == {
        "label": "diagnosis",
        "group": "plate",
        "numeric": ["age"],
        "categorical": ["sex"],
    }


def test_unnamed_label_and_group_are_the_columns_of_those_names():
    assert ImportRoles().plain(["group", "label"])["label"] == "label"
    assert "label" not in ImportRoles().plain(["group"])


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        (ImportRoles(label="spott"), "no column 'spott' for the role label; did you mean 'spot'?"),
        (ImportRoles(numeric=("weight",)), "for the role numeric (choices: spot, age, sex)"),
        (ImportRoles(numeric=("age",), categorical=("age",)), "column 'age' has two roles"),
        (ImportRoles(label="age", numeric=("age",)), "column 'age' has two roles"),
        (ImportRoles(numeric=("sex",)), "'f' of sample 'S1' is not a finite number"),
    ],
)
def test_roles_that_do_not_fit_are_refused(roles, message):
    with pytest.raises(CohortError) as caught:
        roles.check(["spot"], TABLE)
    assert message in str(caught.value)


def test_a_files_own_numbers_are_checked_sample_by_sample():
    roles = ImportRoles(numeric=("age",))
    roles.check_sample("S1", {"age": "61", "sex": "f"})
    roles.check_sample("S2", {"age": ""})
    with pytest.raises(CohortError, match="'old' of sample 'S3'"):
        roles.check_sample("S3", {"age": "old"})
