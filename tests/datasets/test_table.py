from __future__ import annotations

import numpy as np
import pytest

from datasets.cohort import Cohort


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
        (b"sample_id;group;label\n1;g;A\n", "(choices: sample_id;group;label)"),
        (b"", "is empty"),
    ],
)
def test_a_table_that_is_none_is_refused(write_cohort, tmp_path, content, message, refusal):
    root = write_cohort(tmp_path)
    (root / "samples.csv").write_bytes(content)
    assert message in refusal(root)
