from __future__ import annotations

import datetime

import openpyxl
import pandas as pd
import pytest

from datasets.errors import CohortError
from datasets.readers import wide_table
from datasets.readers.reader import SourceFile
from datasets.readers.wide_table import (
    ParquetReader,
    WideTableReader,
    XlsxReader,
    cell_text,
    read_rows,
)
from tests.datasets.readers.raw_files import write_wide_csv

AXIS = [1000.5, 1001.0, 1002.0]
ROWS = [("007", "case", 1.5, 0, 3), ("008", "control", 2, 4, 1e3)]


@pytest.fixture
def table(tmp_path):
    return write_wide_csv(tmp_path / "wide.csv", AXIS, ROWS, ["label"])


def check(scans):
    assert [(scan.sample_id, scan.scan) for scan in scans] == [("007", "0"), ("008", "0")]
    assert [scan.columns for scan in scans] == [{"label": "case"}, {"label": "control"}]
    assert scans[0].mz.tolist() == AXIS
    assert [scan.intensity.tolist() for scan in scans] == [list(row[2:]) for row in ROWS]
    assert scans[0].centroid is None


def test_a_row_is_a_scan_and_numbered_columns_its_points(table, read):
    check(read(WideTableReader(), table))


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_are_found(table, read, separator):
    table.write_text(table.read_text().replace(",", separator))
    check(read(WideTableReader(), table))


def test_parquet_reads_the_same(table, tmp_path, read):
    path = tmp_path / "wide.parquet"
    pd.read_csv(table, dtype={"sample_id": str}).to_parquet(path)
    check(read(ParquetReader(), path))


def test_the_first_sheet_of_a_workbook_reads_the_same(table, tmp_path, read):
    book = openpyxl.Workbook()
    book.active.append(["sample_id", "label", *AXIS])
    for row in ROWS:
        book.active.append(row)
    book.active.append([])
    book.save(tmp_path / "wide.xlsx")
    check(read(XlsxReader(), tmp_path / "wide.xlsx"))


@pytest.mark.parametrize("prefix", ["X", "mz_", "m/z "])
def test_a_points_name_may_have_a_programs_prefix(table, read, prefix):
    text = table.read_text()
    for x in AXIS:
        text = text.replace(f",{x:g}", f",{prefix}{x:g}", 1)
    table.write_text(text)
    check(read(WideTableReader(), table))


@pytest.mark.parametrize("unit", ["nm", " nm", "cm-1"])
def test_a_points_name_may_have_its_unit(table, read, unit):
    text = table.read_text()
    for x in AXIS:
        text = text.replace(f",{x:g}", f",{x:g}{unit}", 1)
    table.write_text(text)
    check(read(WideTableReader(), table))


def test_a_covariate_with_a_number_in_its_name_is_no_point(tmp_path, read):
    path = write_wide_csv(tmp_path / "wide.csv", AXIS, [("S1", 35, 1, 2, 3)], ["CA125"])
    (scan,) = read(WideTableReader(), path)
    assert scan.columns == {"CA125": "35"}
    assert scan.points == 3


def test_the_scan_column_tells_the_rows_of_a_sample_apart(tmp_path, read):
    rows = [("S1", "a", 1, 2, 3), ("S1", "b", 4, 5, 6)]
    path = write_wide_csv(tmp_path / "wide.csv", AXIS, rows, ["scan"])
    scans = read(WideTableReader(), path)
    assert [(scan.sample_id, scan.scan) for scan in scans] == [("S1", "a"), ("S1", "b")]
    assert scans[0].columns == {}


def test_another_column_can_name_the_samples(table, read):
    table.write_text(table.read_text().replace("sample_id", "isolate"))
    check(read(WideTableReader(sample_column="isolate"), table))


# What is refused, in one line each


def test_a_table_without_the_names_column_is_refused(table, refusal):
    table.write_text(table.read_text().replace("sample_id", "sampleid"))
    assert "no column 'sample_id' of samples' names; did you mean 'sampleid'?" in refusal(
        WideTableReader(), table
    )


REFUSED = {
    "row 3 (sample '008'): intensity inf at point 1": (",4,", ",inf,"),
    "row 3: 'four' in column '1001'; a number was expected": (",4,", ",four,"),
    "row 3: no value in column '1001'": (",4,", ",,"),
    "row 3: 4 fields, 5 were expected": (",4,", ","),
    "row 2 names no sample": ("007", ""),
    "the axis falls, point 1 is 1000.5 after 1001": ("1000.5,1001", "1001,1000.5"),
    "more than one column '1001'": ("1000.5,1001", "1001,1001"),
    "no column is called by a number": ("1000.5,1001,1002", "a,b,c"),
    "a column without a name": ("label", ""),
}


@pytest.mark.parametrize("message", REFUSED)
def test_a_damaged_table_is_refused(table, refusal, message):
    before, after = REFUSED[message]
    assert before in table.read_text()
    table.write_text(table.read_text().replace(before, after))
    assert message in refusal(WideTableReader(), table)


def test_text_of_another_encoding_is_refused(table, refusal):
    table.write_bytes(table.read_text().replace("case", "Fälle").encode("latin-1"))
    assert "wide.csv is not UTF-8 text (byte 0xe4)" in refusal(WideTableReader(), table)


@pytest.mark.parametrize(
    ("reader", "name", "kind"),
    [(ParquetReader(), "w.parquet", "Parquet"), (XlsxReader(), "w.xlsx", "XLSX")],
)
def test_a_damaged_binary_table_is_refused(tmp_path, refusal, reader, name, kind):
    (tmp_path / name).write_bytes(b"PK or PAR1, but nothing after it")
    assert f"{name} cannot be read as {kind}" in refusal(reader, tmp_path / name)


@pytest.mark.parametrize(
    ("header", "cell", "said"),
    [("400,5", "1", "column '400,5' has a decimal comma"), ("400", "1,5", "write decimals with a")],
)
def test_decimal_commas_of_a_wide_table_are_named(tmp_path, header, cell, said):
    path = tmp_path / "w.csv"
    path.write_text(f"sample_id;{header}\nS1;{cell}\n")
    with pytest.raises(CohortError, match=said):
        list(WideTableReader().read(SourceFile(path, "w.csv")))


def test_rows_come_with_the_number_that_a_spreadsheet_shows(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text('a,"b\n c"\n\n1,2\n', encoding="utf-8-sig")
    assert list(read_rows(path)) == [(2, ["a", "b c"]), (4, ["1", "2"])]


def test_empty_columns_at_the_right_are_passed_over(tmp_path):
    path = tmp_path / "t.csv"
    path.write_text("a,b,,\n1,2,,\n")
    assert [cells for _, cells in read_rows(path)] == [["a", "b"], ["1", "2"]]


def test_parquet_comes_in_batches_that_hold_every_row_once(tmp_path, monkeypatch):
    monkeypatch.setattr(wide_table, "BATCH_CELLS", 4)
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
