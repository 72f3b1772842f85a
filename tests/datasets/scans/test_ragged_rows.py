from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.scans.ragged_rows import RaggedRows

ROWS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=20)


@given(rows=ROWS, data=st.data())
def test_the_rows_of_samples_are_theirs_in_the_order_asked_for(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    ragged = RaggedRows([np.array(own) for own in rows])
    found = ragged.of(np.array(samples, dtype=np.int64))
    assert found.tolist() == [row for sample in samples for row in rows[sample]]
    assert ragged.counts.tolist() == [len(own) for own in rows]


@given(rows=ROWS, data=st.data())
def test_padded_each_has_as_many_rows_and_a_filler_behind_its_own(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    most = data.draw(st.integers(max([0, *(len(rows[sample]) for sample in samples)]), 8))
    ragged = RaggedRows([np.array(own) for own in rows])
    found = ragged.padded(np.array(samples, dtype=np.int64), most, filler=100)
    wanted = [rows[sample] + [100] * (most - len(rows[sample])) for sample in samples]
    assert found.tolist() == [row for own in wanted for row in own]


def test_there_may_be_no_sample():
    assert len(RaggedRows([]).flat) == len(RaggedRows([]).counts) == 0
