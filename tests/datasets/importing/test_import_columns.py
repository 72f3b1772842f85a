from __future__ import annotations

import openpyxl
import pytest

from datasets.errors import CohortError
from datasets.importing.imported_cohort import CovariateTable, ImportRoles

SAMPLES = {"S1": {"spot": "A1", "label": "old"}, "S2": {"spot": "A2", "label": "old"}}
TABLE = CovariateTable(["age", "sex"], {"S1": {"age": "61", "sex": "f"}})


def write(tmp_path, text):
    path = tmp_path / "covariates.csv"
    path.write_text(text, encoding="utf-8")
    return path


def test_rows_are_joined_by_name_and_both_sides_rest_is_listed(tmp_path):
    table = CovariateTable.read(write(tmp_path, "sample_id,age,label\nS9,50,x\nS1,61,case\n"))
    joined = table.join(SAMPLES)
    assert joined.samples == {
        "S1": {"spot": "A1", "label": "case", "age": "61"},
        "S2": {"spot": "A2", "label": "", "age": ""},
    }
    assert joined.without_row == ["S2"]
    assert joined.without_sample == ["S9"]


def test_a_workbook_with_another_column_of_names_joins_too(tmp_path):
    book = openpyxl.Workbook()
    for row in [("Patient", "age"), (7, 61.0), (8, None)]:
        book.active.append(row)
    book.save(tmp_path / "covariates.xlsx")
    table = CovariateTable.read(tmp_path / "covariates.xlsx", "Patient")
    assert table.rows == {"7": {"age": "61"}, "8": {"age": ""}}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample,age\nS1,3\n", "no column 'sample_id' of samples' names; did you mean 'sample'?"),
        ("sample_id,age\nS1,3\nS1,4\n", "row 3: duplicate sample 'S1'"),
        ("sample_id,age\n,4\n", "row 2 names no sample"),
    ],
)
def test_a_table_that_cannot_be_joined_is_refused(tmp_path, text, message):
    with pytest.raises(CohortError) as caught:
        CovariateTable.read(write(tmp_path, text))
    assert message in str(caught.value)


def test_a_second_column_of_names_is_refused(tmp_path):
    path = write(tmp_path, "sample_id,isolate\nS1,i1\n")
    with pytest.raises(CohortError, match="has both columns 'isolate' and 'sample_id'"):
        CovariateTable.read(path, "isolate")


@pytest.mark.parametrize(
    ("samples", "names", "said"),
    [
        (["001", "002"], ["1", "2"], "differ by case, blanks or leading zeros.* '001' and row '1'"),
        (["a1", "b2"], ["A1", "B2"], "'a1' and row 'A1'"),
        (["x", "y"], ["1", "2"], "no name is shared, as sample 'x' and row '1'"),
    ],
)
def test_a_join_that_matches_nothing_is_refused(samples, names, said):
    table = CovariateTable(["age"], {name: {"age": "50"} for name in names})
    with pytest.raises(CohortError, match=f"none of the 2 rows is of one of the 2 .*{said}"):
        table.join({name: {} for name in samples})


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_mark_of_byte_order_are_read(tmp_path, separator):
    path = tmp_path / "covariates.csv"
    path.write_text(f"sample_id{separator}age\nS1{separator}61\n", encoding="utf-8-sig")
    assert CovariateTable.read(path).rows == {"S1": {"age": "61"}}


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
