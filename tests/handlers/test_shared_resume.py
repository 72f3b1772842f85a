"""A run of two processes is continued by two, by three and by one."""

from __future__ import annotations

import pytest
import torch

from engine.checkpointing import OTHERS, load_checkpoint
from tests.handlers import shared_resume_work
from tests.handlers.shared_resume_work import EPOCHS, resume
from tests.shared_problem import largest_difference

WORK = shared_resume_work.__name__
COMPARED = ("weights", "metrics", "iteration", "steps", "drawn")


@pytest.fixture
def two(two_processes):
    return two_processes[WORK]


@pytest.fixture
def three(three_processes):
    return three_processes[WORK]


@pytest.mark.parametrize("cut", ["own_within", "own_end"])
def test_the_same_world_size_resumes_exactly_with_dropout(cut, two):
    for outcome in two:
        straight, continued = outcome["straight"], outcome[cut]
        assert all(largest_difference(straight[k], continued[k]) == 0 for k in COMPARED)
    assert not torch.equal(two[0][cut]["drawn"], two[1][cut]["drawn"])


def test_a_checkpoint_reads_as_one_of_a_process_that_trains_alone(two, shared_folder):
    states = load_checkpoint(shared_folder / "within.pt")["states"]
    other = states.pop(OTHERS)
    assert len(other) == 1
    assert len(states["epoch_metrics"]["kept"]) == 2  # of the first process's two steps
    own, others = (s["epoch_metrics"]["kept"][0]["sample_id"] for s in (states, other[0]))
    assert own != others


def test_at_an_epochs_end_one_process_resumes_a_run_of_two(two, shared_folder, tmp_path):
    plain = two[0]["plain"]
    alone = resume(shared_folder / "plain-end.pt", tmp_path / "run", 0.0, joint=2)
    assert largest_difference(plain["weights"], alone["weights"]) < 1e-9
    assert largest_difference(plain["metrics"], alone["metrics"]) < 1e-6
    assert plain["rates"][-len(alone["rates"]) :] == pytest.approx(alone["rates"])


def test_one_process_with_twice_the_steps_keeps_the_schedule(two, shared_folder, tmp_path):
    alone = resume(shared_folder / "plain-end.pt", tmp_path / "run", 0.0, joint=1)
    assert (alone["iteration"], alone["steps"]) == (EPOCHS * 10, EPOCHS * 5)
    assert notice(alone)["message"] == "saved by 2 processes, continued by 1"
    # Half of a cosine is behind both, however many steps it takes.
    halfway = alone["rates"][0]
    assert halfway == pytest.approx(0.005, rel=0.2)


def test_within_an_epoch_another_world_size_begins_it_again(two, shared_folder, tmp_path):
    file = shared_folder / "plain-within.pt"
    alone = resume(file, tmp_path / "run", 0.0, joint=2)
    assert largest_difference(load_checkpoint(file)["states"]["model"], alone["restored"]) == 0
    assert "epoch 2 begins again" in notice(alone)["message"]
    assert alone["iteration"] == EPOCHS * 5
    assert len(alone["rates"]) == 3 * 3  # windows of three whole epochs


@pytest.mark.parametrize("cut", ["within", "end", "dropout"])
def test_three_processes_continue_what_two_began_and_agree(cut, three):
    first = three[0][cut]
    for outcome in three:
        assert outcome[cut]["iteration"] == EPOCHS * len(three) + EPOCHS
        assert largest_difference(first["weights"], outcome[cut]["weights"]) == 0
        assert largest_difference(first["metrics"], outcome[cut]["metrics"]) == 0
    assert notice(first)["processes"] == 3


def test_a_process_that_had_no_part_in_saving_draws_differently(three):
    drawn = [outcome["dropout"]["drawn"] for outcome in three]
    assert not torch.equal(drawn[2], drawn[0])
    assert not torch.equal(drawn[2], drawn[1])


def notice(outcome):
    (found,) = [each for each in outcome["notices"] if each["event"] == "shared_anew"]
    return found
