from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from datasets.scans import RaggedRows, Runs, count_up, find_runs

ROWS = st.lists(st.lists(st.integers(0, 99), min_size=1, max_size=6), min_size=1, max_size=20)
RUN_ROWS = st.lists(st.integers(0, 9), max_size=12)
SAMPLES = st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=6), min_size=1, max_size=9)


@given(rows=ROWS, data=st.data())
def test_the_rows_of_samples_are_theirs_in_the_order_asked_for(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    ragged = RaggedRows([np.array(own) for own in rows])
    found = ragged.of(np.array(samples, dtype=np.int64))
    assert found.tolist() == [row for sample in samples for row in rows[sample]]
    assert ragged.counts.tolist() == [len(own) for own in rows]


@given(rows=ROWS, data=st.data())
def test_padded_rows_end_with_the_filler(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    most = data.draw(st.integers(max([0, *(len(rows[sample]) for sample in samples)]), 8))
    ragged = RaggedRows([np.array(own) for own in rows])
    found = ragged.padded(np.array(samples, dtype=np.int64), most, filler=100)
    wanted = [rows[sample] + [100] * (most - len(rows[sample])) for sample in samples]
    assert found.tolist() == [row for own in wanted for row in own]


def test_there_may_be_no_sample():
    assert len(RaggedRows([]).flat) == len(RaggedRows([]).counts) == 0


def gather(runs: Runs, length: int) -> list[int]:
    """Which row stands at each place; -1 where none does."""
    found = np.full(length, -1)
    for first, count, place in zip(*runs, strict=True):
        found[place : place + count] = np.arange(first, first + count)
    return found.tolist()


def runs_of(rows: list[np.ndarray], samples: list[int], places: np.ndarray) -> Runs:
    """The runs of samples whose first rows go to these places."""
    ragged, chosen = RaggedRows(rows), np.array(samples, dtype=np.int64)
    return find_runs(ragged.of(chosen), count_up(places, ragged.counts[chosen]))


@given(rows=RUN_ROWS)
def test_runs_hold_the_rows_in_order_and_are_longest(rows):
    runs = find_runs(np.array(rows, dtype=np.int64), np.arange(len(rows)))
    assert gather(runs, len(rows)) == rows
    assert runs.counts.sum() == len(rows)
    assert (runs.first[1:] != (runs.first + runs.counts)[:-1]).all()


@given(rows=SAMPLES, data=st.data())
def test_the_runs_of_samples_bring_each_ones_rows_to_its_place(rows, data):
    samples = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=8))
    most = 7  # one more than the longest may have
    places = np.arange(len(samples)) * most
    runs = runs_of([np.array(own) for own in rows], samples, places)
    wanted = [rows[sample] + [-1] * (most - len(rows[sample])) for sample in samples]
    assert gather(runs, len(samples) * most) == [row for own in wanted for row in own]


def test_a_sample_of_neighbouring_scans_is_one_run():
    rows = [np.arange(5), np.arange(5, 7), np.array([9, 8])]
    runs = runs_of(rows, [0, 1, 2], np.array([0, 6, 9]))
    assert runs.counts.tolist() == [5, 2, 1, 1]


def test_runs_of_no_sample_are_none():
    none = np.zeros(0, dtype=np.int64)
    assert gather(runs_of([], [], none), 0) == []
