from __future__ import annotations

import openpyxl
import pandas as pd
import pytest

from datasets.errors import CohortError
from datasets.readers.source_files import SourceFile
from datasets.readers.wide_table import ParquetReader, WideTableReader, XlsxReader
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


def test_a_row_is_a_scan_and_columns_called_by_numbers_are_its_points(table, read):
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
def test_a_point_may_carry_the_prefix_that_programs_put_before_numbers(table, read, prefix):
    text = table.read_text()
    for x in AXIS:
        text = text.replace(f",{x:g}", f",{prefix}{x:g}", 1)
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
