"""One process alone; several are started in the tests of what uses them."""

from __future__ import annotations

import pytest

from engine.processes import first_then_others, from_first, gather, is_first, rank, world


def test_a_process_that_trains_alone_is_the_first_of_one():
    assert (rank(), world(), is_first()) == (0, 1, True)


def test_alone_it_gathers_what_it_holds_itself():
    held = {"any": "thing"}
    assert gather(held)[0] is held


def test_what_the_first_process_makes_is_made_once():
    made: list[str] = []

    def make():
        made.append("folder")
        return "folder"

    assert from_first(make) == "folder"
    assert made == ["folder"]


def test_where_the_first_process_fails_its_error_is_raised():
    def fail():
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        from_first(fail)


def test_the_first_process_goes_through_a_block_without_waiting_for_any():
    with first_then_others():
        seen = True
    assert seen
