from __future__ import annotations

import openpyxl
import pytest

from datasets.errors import CohortError
from datasets.importing.covariate_join import CovariateTable

SAMPLES = {"S1": {"spot": "A1", "label": "old"}, "S2": {"spot": "A2", "label": "old"}}


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
