from __future__ import annotations

import pandas as pd
import pytest
import yaml

from datasets.cohort import file_sha256
from datasets.importing.imported_cohort import (
    CovariateTable,
    ImportRoles,
    ScanRecord,
    idle_columns,
    join_samples,
    write_description,
    write_samples,
    write_scans,
    write_sources,
)


def record(number, left_out=None, **changes):
    values = {
        "sample_id": f"S{number}",
        "scan": "0",
        "source": "raw/a.mzML",
        "columns": {},
        "details": {"x": str(number)},
        "tic": 1234.5,
        "low": 100.0 + number,
        "high": 200.0 + number,
        "empty_bins": 2,
        "zero": False,
        "left_out": left_out,
    }
    return ScanRecord(**{**values, **changes})


def test_scans_are_written_and_the_rest_is_listed(tmp_path):
    records = [record(0), record(1, "tic"), record(2, low=None, high=None, zero=True)]
    write_scans(tmp_path, pd.DataFrame(map(vars, records)))
    assert (tmp_path / "scans.csv").read_text() == (
        "sample_id,scan,source,tic,x\nS0,0,raw/a.mzML,1234.5,0\nS2,0,raw/a.mzML,1234.5,2\n"
    )
    assert (tmp_path / "left_out.csv").read_text() == (
        "sample_id,scan,source,reason\nS1,0,raw/a.mzML,tic\n"
    )


@pytest.mark.parametrize(
    ("samples", "roles", "table", "columns"),
    [
        ({"S1": {"spot": "A"}}, ImportRoles(), None, ["group", "spot"]),
        ({"S1": {"group": "p1"}}, ImportRoles(), None, ["group"]),
        ({"S1": {"plate": "p1"}}, ImportRoles(group="plate"), None, ["plate"]),
        ({"S1": {}}, ImportRoles(), CovariateTable(["group"], {"S1": {"group": "p"}}), ["group"]),
    ],
)
def test_a_sample_is_its_own_group_only_where_nothing_says_it(
    tmp_path, samples, roles, table, columns
):
    joined = join_samples(samples, roles, table)
    assert write_samples(tmp_path, joined.samples) == columns
    said = joined.samples["S1"].get("group")
    assert said == ("S1" if columns == ["group", "spot"] else samples["S1"].get("group", said))


def test_cells_with_commas_and_letters_of_all_kinds_survive(tmp_path):
    write_samples(tmp_path, {"S,1": {"städte": 'Köln, "Bonn"'}, "S2": {"other": "1"}})
    assert (tmp_path / "samples.csv").read_text(encoding="utf-8") == (
        'sample_id,städte,other\n"S,1","Köln, ""Bonn""",\nS2,,1\n'
    )


def test_the_description_ends_with_the_files_checksums(tmp_path):
    assert write_sources(tmp_path, [{"name": "raw/ä.txt", "bytes": 3, "sha256": "ab"}]) == 1
    write_description(tmp_path, {"licence": "CC0-1.0", "roles": {"group": "group"}})
    described = yaml.safe_load((tmp_path / "cohort.yaml").read_text(encoding="utf-8"))
    assert list(described) == ["licence", "roles", "checksums"]
    assert described["checksums"] == {"sources.csv": file_sha256(tmp_path / "sources.csv")}


def test_columns_without_a_role_are_idle():
    roles = {"label": "label", "numeric": ["age"], "categorical": []}
    assert idle_columns(["label", "age", "spot"], roles) == ["spot"]
