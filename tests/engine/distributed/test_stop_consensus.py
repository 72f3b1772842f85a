from __future__ import annotations

import pytest

from tests.engine.stop_consensus_work import ITERATIONS


@pytest.fixture
def both(two_processes):
    return two_processes["tests.engine.stop_consensus_work"]


def test_processes_call_each_other_after_the_same_iterations(both):
    assert both[0]["quick"] == both[1]["quick"]


def test_calls_are_as_far_apart_as_every_s_asks(both):
    assert 0 < len(both[0]["quick"]) < ITERATIONS / 10
    assert both[0]["each"] == [1, 2, 3, 4, 5]


def test_no_call_is_due_after_the_last_iteration_of_any_rank(both):
    assert [each["apart"] for each in both] == [[1, 2, 3, 4], [1, 2, 3, 4]]


def test_what_one_process_says_all_hear(both):
    assert [each["answers"] for each in both] == [[0, 15, 0], [0, 15, 0]]
