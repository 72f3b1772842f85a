"""A line for a terminal, and a table for a notebook."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from datasets.cohort import Cohort
from datasets.simulation import simulate_cohort
from datasets.summaries import WithSummary, html_table


class Thing(WithSummary):
    def summary(self):
        return {"name": "<b>", "size": 3}

    def details(self):
        return {"more": "a & b"}


def test_the_line_has_the_summary_and_the_table_all_of_it():
    assert repr(Thing()) == "Thing(name=<b>, size=3)"
    table = Thing()._repr_html_()
    assert table.startswith("<table><caption>Thing</caption>")
    assert "<tr><th>name</th><td>&lt;b&gt;</td></tr>" in table
    assert "<tr><th>more</th><td>a &amp; b</td></tr>" in table


def test_a_header_stands_above_the_columns():
    table = html_table("Results", [("auroc", 1, 2)], ("", "val", "test"))
    head = "<tr><th></th><th>val</th><th>test</th></tr>"
    assert f"{head}<tr><th>auroc</th><td>1</td><td>2</td></tr>" in table


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    root = tmp_path_factory.mktemp("cohorts") / "small"
    return Cohort.read(simulate_cohort(root, 0, n_samples=40, spec_len=64, max_scans=2).root)


def test_a_cohort_is_told_in_a_line_and_a_table(cohort):
    scans = sum(map(len, cohort.scan_rows))
    start = f"Cohort(name=small, samples=40, scans={scans}, points=64, groups="
    assert repr(cohort).startswith(start)
    assert "\n" not in repr(cohort)
    table = cohort._repr_html_()
    assert "<th>axis</th><td>2000 to 20000</td>" in table
    assert "control" in table
    assert "albumin" in table


def test_samples_of_a_cohort_are_a_cohort(cohort):
    chosen = [4, 2, 30]
    some = cohort[chosen]
    assert len(some) == 3
    assert some.shape == (3,)
    assert some.sample_ids == [cohort.sample_ids[row] for row in chosen]
    assert some.samples["sample_id"].tolist() == some.sample_ids
    assert some.targets.tolist() == cohort.targets[chosen].tolist()
    assert some.groups.tolist() == cohort.groups[chosen].tolist()
    assert [rows.tolist() for rows in some.scan_rows] == [
        cohort.scan_rows[row].tolist() for row in chosen
    ]
    assert some.class_names == cohort.class_names
    assert cohort[cohort.targets == 1].targets.all()
    assert len(cohort[:5]) == 5
    again = pickle.loads(pickle.dumps(some))
    assert again.sample_ids == some.sample_ids
    np.testing.assert_array_equal(
        again.spectra[again.scan_rows[0]], some.spectra[some.scan_rows[0]]
    )
    assert cohort[7].sample_ids == [cohort.sample_ids[7]]
