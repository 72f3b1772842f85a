from __future__ import annotations

import datetime

import pandas as pd
import pytest

from datasets.errors import CohortError
from datasets.readers import table_rows
from datasets.readers.table_rows import cell_text, read_rows


def test_rows_come_with_the_number_that_a_spreadsheet_shows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,"b\n c"\n\n1,2\n', encoding="utf-8-sig")
    assert list(read_rows(path)) == [(2, ["a", "b c"]), (4, ["1", "2"])]


def test_empty_columns_at_the_right_are_passed_over(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,,\n1,2,,\n")
    assert [cells for _, cells in read_rows(path)] == [["a", "b"], ["1", "2"]]


def test_parquet_comes_in_batches_that_hold_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(table_rows, "BATCH_CELLS", 4)
    path = tmp_path / "t.parquet"
    pd.DataFrame({"a": range(7), "b": range(7)}).to_parquet(path)
    rows = list(read_rows(path))
    assert rows[0] == (1, ["a", "b"])
    assert rows[1:] == [(number + 2, (number, number)) for number in range(7)]


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        (datetime.datetime(2024, 5, 6), "2024-05-06"),
        (datetime.datetime(2024, 5, 6, 12, 30), "2024-05-06T12:30:00"),
        (float("nan"), ""),
        (7.25, "7.25"),
        (12, "12"),
    ],
)
def test_cells_become_the_text_a_person_would_write(cell, text):
    assert cell_text(cell) == text


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.doc", "a\n", "t.doc is no table"),
        ("t.csv", "", "t.csv is empty"),
        ("t.csv", 'a,b\n"1,2\n', "t.csv cannot be read as CSV"),
        ("t.csv", "a,b\n1,2,3\n", "row 2: 3 fields, 2 were expected"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_text(content)
    with pytest.raises(CohortError) as caught:
        list(read_rows(tmp_path / name))
    assert message in str(caught.value)
