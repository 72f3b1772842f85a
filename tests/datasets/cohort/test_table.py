from __future__ import annotations

import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cohort.cohort import Cohort
from datasets.cohort.table import as_numbers, read_table
from datasets.errors import CohortError


def test_tables_from_spreadsheets_are_read(write_cohort, tmp_path):
    root = write_cohort(tmp_path)
    text = (root / "samples.csv").read_text().replace("crp", '"crp\n(mg/l) "')
    (root / "samples.csv").write_text(text.replace("\n", "\r\n") + "\r\n\r\n", encoding="utf-8-sig")
    assert Cohort.read(root, numeric=["crp (mg/l)"]).samples["crp (mg/l)"].dtype == np.float64


def test_blanks_around_a_cell_mean_nothing(write_cohort, tmp_path):
    root = write_cohort(tmp_path)
    text = (root / "samples.csv").read_text().replace(",A,", ", A ,").replace("004,", "004 ,")
    (root / "samples.csv").write_text(text)
    cohort = Cohort.read(root)
    assert cohort.class_names == ["A", "B", "C"]
    assert cohort.sample_ids[4] == "004"


@pytest.mark.parametrize("name", ["samples.csv", "scans.csv", "spectra.npy", "axis.npy"])
def test_a_missing_file_is_named_with_the_nearest(write_cohort, tmp_path, name, refusal):
    root = write_cohort(tmp_path)
    (root / name).rename(root / f"{name}.old")
    assert f"no file {root / name}; did you mean '{name}.old'?" in refusal(root)


def test_a_missing_folder_is_named_with_the_nearest(write_cohort, tmp_path, refusal):
    write_cohort(tmp_path / "hcc_serum")
    said = refusal(tmp_path / "hcc_serun")
    assert f"no folder {tmp_path / 'hcc_serun'}" in said
    assert "did you mean 'hcc_serum'?" in said
    assert "did you mean 'hcc_serum'?" in refusal(tmp_path / "hcc_seru" / "deeper")
    assert "is a file" in refusal(tmp_path / "hcc_serum" / "axis.npy")


def test_where_there_is_no_other_folder_none_is_offered(tmp_path, refusal):
    assert refusal(tmp_path / "missing").endswith(f"; {tmp_path} holds none")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("sample_id,group,label\n1,Zürich,A\n".encode("latin-1"), "is not UTF-8 text (byte 0xfc"),
        (b"sample_id,group,label\n1,g,A\n2,g,B,x\n", "line 3: 4 fields, 3 were expected"),
        (b"sample_id,group,label\n1,g\n", "line 2: 2 fields, 3 were expected"),
        (b'sample_id,group,label\n1,"g,A\n', "cannot be read as CSV"),
        (b"sample_id,group,label,group\n1,g,A,h\n", "more than one column 'group'"),
        (b"sample_id|group|label\n1|g|A\n", "(choices: sample_id|group|label)"),
        (b"", "is empty"),
    ],
)
def test_a_table_that_is_none_is_refused(write_cohort, tmp_path, content, message, refusal):
    root = write_cohort(tmp_path)
    (root / "samples.csv").write_bytes(content)
    assert message in refusal(root)


CELLS = st.text(st.sampled_from(list("ab0 ,.\"'\n\r\t;\u00e9\u2003")), max_size=4)


@pytest.mark.slow
@given(st.lists(st.tuples(CELLS, CELLS), max_size=5), st.booleans())
@settings(max_examples=200)
def test_a_table_holds_what_another_program_wrote(tmp_path_factory, rows, marked):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("sample_id", "a"), *rows])
    path = tmp_path_factory.mktemp("table") / "samples.csv"
    path.write_bytes(text.getvalue().encode("utf-8-sig" if marked else "utf-8"))
    expected = [[cell.strip() for cell in row] for row in rows]
    table = read_table(path)
    assert table.to_numpy().tolist() == expected
    assert table.dtypes.tolist() == [object, object]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n1\n1,2,3\n", "line 2: 1 fields, 2 were expected"),
        ("a,b\n1,2,3\n1\n", "line 2: 3 fields, 2 were expected"),
        ("a,a\n1,2\n", "more than one column 'a'"),
    ],
)
def test_an_uneven_table_is_refused(tmp_path, content, message):
    (tmp_path / "t.csv").write_text(content)
    with pytest.raises(CohortError, match=message):
        read_table(tmp_path / "t.csv")


def test_blank_lines_are_skipped(tmp_path):
    (tmp_path / "t.csv").write_text("a,b\n1, 2\n\n3,4\n")
    assert read_table(tmp_path / "t.csv").to_numpy().tolist() == [["1", "2"], ["3", "4"]]


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("quote", ["", '"'])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_commas_semicolons_and_tabs_part_fields(tmp_path, separator, quote, encoding):
    lines = [["sample_id", "site"], ["007", "north"], ["NA", ""], ["1e5", " x "]]
    text = "\n".join(separator.join(f"{quote}{cell}{quote}" for cell in line) for line in lines)
    (tmp_path / "t.csv").write_text(text, encoding=encoding)
    table = read_table(tmp_path / "t.csv", ["sample_id", "site"])
    assert table.to_numpy().tolist() == [["007", "north"], ["NA", ""], ["1e5", "x"]]


def test_a_decimal_comma_is_named_as_such():
    with pytest.raises(CohortError, match=r"'1,5' of sample 'a' is .*write decimals with a point"):
        as_numbers(pd.Series(["1,5", "2"]), "age", ["a", "b"])
