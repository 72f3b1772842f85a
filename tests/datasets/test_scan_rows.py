from __future__ import annotations

import numpy as np
import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from datasets.scan_rows import find_scan_rows

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
