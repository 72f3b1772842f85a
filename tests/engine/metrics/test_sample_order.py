from __future__ import annotations

from types import SimpleNamespace

import pytest

from engine.metrics.sample_order import order_of, rows_in_order


def test_names_come_into_the_order_that_is_given():
    names = ["b", "d", "a"]
    rows = rows_in_order(names, order=["d", "c", "b", "a"])
    assert [names[row] for row in rows] == ["d", "b", "a"]


def test_without_an_order_numbers_in_names_count():
    names = ["s10", "s2", "10", "2", "", "a", "s2b"]
    rows = rows_in_order(names)
    assert [names[row] for row in rows] == ["", "2", "10", "a", "s2", "s2b", "s10"]


def test_equal_names_stay_as_they_came():
    assert rows_in_order(["a", "a", "a"]) == [0, 1, 2]


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_order_of_a_loader_is_its_data_set_s(wrapped):
    dataset = SimpleNamespace(sample_ids=["b", "a"])
    loader = SimpleNamespace(dataset=dataset, batch_sampler=SimpleNamespace(world_size=1))
    assert order_of(SimpleNamespace(loader=loader) if wrapped else loader) == ["b", "a"]


def test_a_share_of_a_data_set_has_no_order():
    dataset = SimpleNamespace(sample_ids=["b", "a"])
    loader = SimpleNamespace(dataset=dataset, batch_sampler=SimpleNamespace(world_size=2))
    assert order_of(loader) is None
    assert order_of([1, 2]) is None
