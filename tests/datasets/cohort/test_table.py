from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datasets.cohort.cohort import Cohort
from datasets.cohort.table import _read_any, _read_simple, as_numbers, read_table
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


# The quick reader and the thorough one

CELLS = st.text(st.sampled_from(list("ab0 ,.\"'\n\r\t;\u00e9\u2003\x00")), max_size=4)
LINES = st.lists(st.text(st.sampled_from(list('ab0 ,"\t\u00e9\u2003\x1c')), max_size=7), max_size=6)


@pytest.mark.slow
@given(LINES, st.sampled_from(["\n", "\r\n", "\r"]), st.booleans(), st.booleans())
@settings(max_examples=400)
def test_the_quick_reader_reads_what_the_thorough_one_reads(lines, end, marked, ended):
    content = end.join(["sample_id,a", *lines]) + (end if ended else "")
    read_alike(content.encode("utf-8-sig" if marked else "utf-8"))


@pytest.mark.slow
@given(st.lists(st.tuples(CELLS, CELLS), max_size=5))
@settings(max_examples=200)
def test_the_quick_reader_reads_what_any_program_wrote(rows):
    text = io.StringIO(newline="")
    csv.writer(text).writerows([("sample_id", "a"), *rows])
    read_alike(text.getvalue().encode())


def read_alike(content):
    quick = _read_simple(content, ",")
    if quick is None:
        return
    thorough = _read_any(content, Path("samples.csv"), ",")
    pd.testing.assert_frame_equal(quick, thorough, check_dtype=True)


def test_only_a_plain_table_is_read_by_the_fast_reader():
    plain = _read_simple(b"sample_id,label\n1, A \n2,B\n", ",")
    assert plain is not None
    assert plain["label"].tolist() == ["A", "B"]
    assert _read_simple(b'sample_id,label\n1,"A"\n', ",") is None
    for uneven in (b"a,b\n1\n1,2,3\n", b"a,b\n1,2,3\n1\n", b"a,b\n1,2\n\n1,2\n", b"a,a\n1,2\n"):
        assert _read_simple(uneven, ",") is None


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
