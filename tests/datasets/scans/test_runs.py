from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.scans.ragged_rows import RaggedRows
from datasets.scans.runs import Runs, SampleRuns, find_runs

ROWS = st.lists(st.integers(0, 9), max_size=12)
SAMPLES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=9)


def gather(runs: Runs, length: int) -> list[int]:
    """Which row stands at each place; -1 where none does."""
    found = np.full(length, -1)
    for first, count, place in zip(*runs, strict=True):
        found[place : place + count] = np.arange(first, first + count)
    return found.tolist()


@given(rows=ROWS)
def test_runs_hold_the_rows_in_their_order_and_are_as_long_as_they_can_be(rows):
    runs = find_runs(np.array(rows, dtype=np.int64))
    assert gather(runs, len(rows)) == rows
    assert runs.counts.sum() == len(rows)
    assert (runs.first[1:] != (runs.first + runs.counts)[:-1]).all()


@given(rows=SAMPLES, data=st.data())
def test_the_runs_of_samples_bring_each_ones_rows_to_its_place(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    most = 7  # one more than the longest may have
    places = np.arange(len(samples)) * most
    runs = SampleRuns(RaggedRows([np.array(own) for own in rows])).of(
        np.array(samples, dtype=np.int64), places
    )
    wanted = [rows[sample] + [-1] * (most - len(rows[sample])) for sample in samples]
    assert gather(runs, len(samples) * most) == [row for own in wanted for row in own]


def test_a_sample_of_neighbouring_scans_is_one_run():
    rows = [np.arange(5), np.arange(5, 7), np.array([9, 8])]
    runs = SampleRuns(RaggedRows(rows)).of(np.array([0, 1, 2]), np.array([0, 5, 7]))
    assert runs.counts.tolist() == [5, 2, 1, 1]


def test_there_may_be_no_sample():
    none = np.zeros(0, dtype=np.int64)
    assert gather(SampleRuns(RaggedRows([])).of(none, none), 0) == []
