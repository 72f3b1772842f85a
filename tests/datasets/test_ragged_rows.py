from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.ragged_rows import RaggedRows

ROWS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=20)


@given(rows=ROWS, data=st.data())
def test_the_rows_of_samples_are_theirs_in_the_order_asked_for(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    ragged = RaggedRows([np.array(own) for own in rows])
    found, ends = ragged.of(np.array(samples, dtype=np.int64))
    parts = np.split(found, ends)[:-1]
    assert [part.tolist() for part in parts] == [rows[sample] for sample in samples]
    assert ragged.counts.tolist() == [len(own) for own in rows]


def test_there_may_be_no_sample():
    assert len(RaggedRows([]).flat) == len(RaggedRows([]).counts) == 0
