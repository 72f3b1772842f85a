"""One process alone, and several that tell each other what they hold."""

from __future__ import annotations

import pytest
import torch

from engine.distributed.collectives import (
    PEER_LOST,
    alone,
    broadcast_from_main,
    gather,
    interleave,
    is_main_process,
    lost_peers_told,
    main_process_first,
    peer_failure,
    rank,
    world_size,
)
from tests.engine import joint_metrics_work


def test_a_process_that_trains_alone_is_the_first_of_one():
    assert (rank(), world_size(), is_main_process()) == (0, 1, True)


def test_alone_it_gathers_what_it_holds_itself():
    held = {"any": "thing"}
    assert gather(held)[0] is held


def test_what_the_first_process_makes_is_made_once():
    made: list[str] = []

    def make():
        made.append("folder")
        return "folder"

    assert broadcast_from_main(make) == "folder"
    assert made == ["folder"]


def test_where_the_first_process_fails_its_error_is_raised():
    def fail():
        raise ValueError("no such folder")

    with pytest.raises(ValueError, match="no such folder"):
        broadcast_from_main(fail)


def test_rank_0_passes_main_process_first_without_waiting():
    with main_process_first():
        seen = True
    assert seen


# -- several ----------------------------------------------------------------------------------

WORK = joint_metrics_work.__name__


@pytest.fixture(params=["two_processes", "three_processes"])
def outcomes(request):
    return request.getfixturevalue(request.param)[WORK]


def test_gather_returns_the_values_in_the_order_of_ranks(outcomes):
    expected = ["a", "bb", "ccc"][: len(outcomes)]
    assert all(outcome["gathered"] == expected for outcome in outcomes)


def test_where_one_fails_all_fail_and_where_none_fails_none_does(outcomes):
    last = len(outcomes) - 1
    assert all(outcome["last_fails"] == f"process {last} failed" for outcome in outcomes)
    assert all(outcome["nobody_fails"] == "nobody failed" for outcome in outcomes)


def test_an_error_that_cannot_travel_arrives_as_its_text(outcomes):
    assert outcomes[0]["first_raises"] == "UnsendableError: 1 and 2"
    assert all(o["first_raises"] == "RuntimeError: UnsendableError: 1 and 2" for o in outcomes[1:])


def test_the_others_find_what_the_first_left(outcomes):
    assert all(outcome["passed_before"] == ["first.passed"] for outcome in outcomes[1:])


def test_within_alone_each_rank_measures_all_samples(outcomes):
    for outcome in outcomes:
        assert outcome["company"] == 1
        assert len(outcome["by_itself"]["sample_id"]) == joint_metrics_work.SAMPLES


def test_within_alone_it_is_the_first_of_one():
    with alone():
        assert (rank(), world_size(), is_main_process()) == (0, 1, True)
    assert world_size() == 1


def test_the_loss_of_another_process_is_told_in_a_line(two_processes):
    found = two_processes["tests.engine.lost_peer_work"][0]
    assert found == {"in_a_step": PEER_LOST, "in_a_meeting": PEER_LOST}


def test_any_other_error_is_no_lost_process():
    assert peer_failure(RuntimeError("shapes cannot be multiplied")) is None
    assert peer_failure(ValueError("Connection closed by peer")) is None
    with pytest.raises(RuntimeError, match="shapes"), lost_peers_told():
        raise RuntimeError("shapes cannot be multiplied")


def test_what_the_library_of_messages_says_itself_is_told_too():
    line = peer_failure(
        torch.distributed.DistNetworkError("the store is gone\nC++ CapturedTraceback")
    )
    assert line == f"{PEER_LOST}: the store is gone"


def test_batches_are_put_in_the_order_of_one_process():
    assert interleave([[0, 3, 6], [1, 4], [2, 5]]) == list(range(7))


def test_alone_a_process_is_rank_0_of_1():
    with alone():
        assert (rank(), world_size(), gather("mine")) == (0, 1, ["mine"])


def test_interleaved_batches_may_end_early():
    assert interleave([["a", "c", "e"], ["b", "d"], []]) == ["a", "b", "c", "d", "e"]


def test_only_a_lost_peer_has_a_line():
    lost = RuntimeError("[pair.cc:534] Connection closed by peer [127.0.0.1]:6302")
    assert peer_failure(lost) == PEER_LOST
    assert peer_failure(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
