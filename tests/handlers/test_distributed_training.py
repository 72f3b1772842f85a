"""Several processes train as one does that takes all their batches."""

from __future__ import annotations

import pytest
import torch

from datasets.errors import UsageError
from experiments.config import find_named
from handlers import HANDLERS
from handlers.distributed_training import DistributedTraining
from tests.handlers import distributed_training_work, first_process_work
from tests.shared_problem import SharedLoader, build_model, largest_difference, weights_of

WORK = "tests.handlers.distributed_training_work"
# Losses come in single precision, weights in double.
SAME_METRICS, SAME_WEIGHTS = 1e-6, 1e-9
# Sums of class weights are in single precision.
SAME_WITH_CLASS_WEIGHTS = 1e-7


@pytest.fixture
def outcomes(two_processes):
    assert [outcome["world_size"] for outcome in two_processes[WORK]] == [2, 2]
    return two_processes[WORK]


@pytest.mark.slow
@pytest.mark.parametrize("name", distributed_training_work.SAME)
def test_results_are_those_of_one_process_with_joint_batches(name, outcomes):
    alone = distributed_training_work.SAME[name](2)
    for together in (outcome[name] for outcome in outcomes):
        same = SAME_WITH_CLASS_WEIGHTS if name.startswith("class_weights") else SAME_WEIGHTS
        assert largest_difference(alone["weights"], together["weights"]) < same
        assert largest_difference(alone, together) < SAME_METRICS


def test_training_moved_the_weights_and_a_bad_step_was_left_out(outcomes):
    begun = weights_of(build_model())
    plain = outcomes[0]["batches_of_different_sizes"]
    assert largest_difference(begun, plain["weights"]) > 0.01
    for name in ("a_step_that_is_bad_in_one_process", "a_step_that_the_optimizer_leaves_out"):
        assert outcomes[0][name]["metrics"]["train/skipped_steps"] == 1.0
    assert plain["steps"] - outcomes[0]["a_step_that_is_bad_in_one_process"]["steps"] == 3


def test_what_has_no_part_in_the_loss_is_left_as_it_was(outcomes):
    begun = build_model(idle=True).idle.weight
    for name in ("a_layer_without_a_part_in_the_loss", "such_a_layer_in_a_static_graph"):
        assert torch.equal(outcomes[1][name]["weights"]["idle.weight"], begun)


def test_all_processes_stop_early_at_the_same_epoch(outcomes):
    first, second = (outcome["decisions"] for outcome in outcomes)
    assert first["stopping"] == second["stopping"]
    assert first["epoch"] == second["epoch"] < 12


def test_ranks_share_initial_weights_but_not_random_draws(outcomes):
    first, second = (outcome["beginnings"] for outcome in outcomes)
    assert largest_difference(weights_of(build_model(seed=0)), first["weights"]) == 0
    assert largest_difference(first["weights"], second["weights"]) == 0
    assert not torch.equal(first["drawn"], second["drawn"])


def test_all_measure_with_the_first_ones_running_statistics(outcomes):
    first, second = (outcome["norms_with_statistics"] for outcome in outcomes)
    assert "body.1.running_mean" in first["weights"]
    assert "body.1.running_mean" in first["statistics"]
    assert largest_difference(first, second) == 0


def test_nothing_is_sent_before_a_windows_last_micro_batch(outcomes):
    for outcome in outcomes:
        assert outcome["messages_in_a_window"] == [False, False, True] * 2


def test_different_numbers_of_batches_are_refused_on_all_ranks(outcomes):
    for outcome in outcomes:
        assert "different numbers of batches" in outcome["different_numbers_of_batches"]


def test_a_layer_that_drops_out_of_the_loss_is_a_usage_error(outcomes):
    for outcome in outcomes:
        for layer in ("a_layer_that_is_used_now_and_then", "a_layer_that_comes_in_later"):
            assert "set find_unused_parameters to true" in outcome[layer]


def test_the_first_process_writes_the_checkpoints_and_no_other(outcomes):
    first, second = (outcome["files_written"]["files"] for outcome in outcomes)
    assert {"best.pt", "last.pt"} < set(first)
    assert second == []


def test_a_folder_that_the_first_cannot_write_to_ends_all(outcomes):
    for outcome in outcomes:
        assert "cannot write checkpoints" in outcome["a_folder_that_cannot_be_written"]


def test_a_process_that_trains_alone_is_left_as_it_is():
    trainer = distributed_training_work.build()
    trainer.fit(SharedLoader(10, 4), 1)
    assert trainer.network is trainer.model
    assert trainer.state.batch_weight is None


@pytest.mark.parametrize(
    ("settings", "line"),
    [
        ({"static_graph": 1}, "static_graph must be true or false"),
        (
            {"find_unused_parameters": "yes"},
            "find_unused_parameters must be true or false, not 'yes'",
        ),
        ({"static_graph": True, "find_unused_parameters": True}, "finds unused parameters by it"),
    ],
)
def test_what_cannot_be_promised_is_refused(settings, line):
    with pytest.raises(UsageError, match=line):
        DistributedTraining(**settings)


# -- who writes and speaks ------------------------------------------------------------------


@pytest.mark.parametrize("name", first_process_work.tried())
def test_of_two_processes_only_the_first_writes_and_speaks(name, two_processes):
    first, second = (
        outcome[name] for outcome in two_processes["tests.handlers.first_process_work"]
    )
    assert second == {"files": [], "printed": ""}
    assert first["files"] or first["printed"] or not writes(name)


def writes(name: str) -> bool:
    """Whether a handler leaves something that a person can see."""
    return (
        getattr(find_named(name, HANDLERS, "name"), "first_process_only", False)
        or name == "checkpoint"
    )
