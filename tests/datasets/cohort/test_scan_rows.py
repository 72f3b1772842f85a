from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datasets.cohort.scan_rows import find_scan_rows
from datasets.errors import CohortError

# What scans.csv may not hold is tested with the cohort that it is a part of.


@given(st.lists(st.integers(0, 5), min_size=1, max_size=40), st.randoms(use_true_random=False))
def test_rows_are_those_of_their_sample_in_the_order_of_their_scans(owners, random):
    names = pd.Index([f"s{number}" for number in range(6)], dtype=object)
    numbers = random.sample(range(100), len(owners))
    scans = pd.DataFrame(
        {"sample_id": names[owners], "scan": list(map(str, numbers))}, dtype=object
    )
    found = find_scan_rows(scans, names, "scans.csv")
    assert sorted(np.concatenate(found)) == list(range(len(owners)))
    for number, rows in enumerate(found):
        assert rows.dtype == np.int64
        assert [owners[row] for row in rows] == [number] * len(rows)
        assert [numbers[row] for row in rows] == sorted(numbers[row] for row in rows)


@pytest.mark.parametrize(
    "names",
    [
        ["20240101120000002", "20240101120000001"],
        ["1.0000000000000001", "1"],
        ["01", "1"],
        ["1e2", "100"],
        ["b", "a", "10", "9"],
    ],
)
def test_scan_names_are_compared_as_text(names):
    scans = pd.DataFrame({"sample_id": ["s"] * len(names), "scan": names}, dtype=object)
    (rows,) = find_scan_rows(scans, pd.Index(["s"], dtype=object), "scans.csv")
    assert sorted(rows) == list(range(len(names)))


def test_large_integers_are_ordered_exactly():
    names = ["9007199254740993", "9007199254740992", "9007199254740991", "7"]
    scans = pd.DataFrame({"sample_id": ["s"] * 4, "scan": names}, dtype=object)
    (rows,) = find_scan_rows(scans, pd.Index(["s"], dtype=object), "scans.csv")
    assert rows.tolist() == [3, 2, 1, 0]


def test_a_name_that_stands_twice_is_refused_by_its_text():
    scans = pd.DataFrame({"sample_id": ["s"] * 3, "scan": ["01", "1", "01"]}, dtype=object)
    with pytest.raises(CohortError, match="scan '01' more than once"):
        find_scan_rows(scans, pd.Index(["s"], dtype=object), "scans.csv")
