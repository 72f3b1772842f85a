"""Several processes measure what one would, of the same samples in the same order."""

from __future__ import annotations

import pytest
import torch

from engine.metrics.step_outputs import StepOutputs, joined
from tests.engine import joint_metrics_work
from tests.shared_problem import build_model, largest_difference

MEASURED = ("metrics", "logits", "sample_id", "vectors")


@pytest.mark.distributed
@pytest.mark.parametrize("processes", ["two_processes", "three_processes"])
@pytest.mark.parametrize(("found", "batch_size"), [("together", 2), ("two_batches", 3)])
def test_five_samples_are_five_however_many_processes_measure_them(
    processes, found, batch_size, request
):
    outcomes = request.getfixturevalue(processes)[joint_metrics_work.__name__]
    alone = joint_metrics_work.measure(build_model(), batch_size)
    assert len(alone["sample_id"]) == joint_metrics_work.SAMPLES
    assert sum(outcome[found]["batches"] for outcome in outcomes) == alone["batches"]
    for outcome in outcomes:
        assert all(largest_difference(alone[k], outcome[found][k]) == 0 for k in MEASURED)


def test_a_process_without_a_batch_takes_part(three_processes):
    third = three_processes[joint_metrics_work.__name__][2]["two_batches"]
    assert third["batches"] == 0
    assert len(third["sample_id"]) == joint_metrics_work.SAMPLES


def kept(*batches: list[float]) -> StepOutputs:
    values = torch.tensor([value for batch in batches for value in batch])
    return StepOutputs(
        sizes=[len(batch) for batch in batches],
        logits=values[:, None],
        target=values,
        sample_id=[f"s{value:g}" for value in values],
        losses={"total_loss": torch.tensor([batch[0] for batch in batches]).double()},
        of_samples={"effective_scans": values.double()},
    )


def test_steps_take_turns_and_losses_are_means_over_samples():
    found = joined([kept([0, 1], [3]), kept([2], [4, 5, 6]), None])
    assert found is not None
    assert found.sample_id == [f"s{number}" for number in range(7)]
    assert found.target.tolist() == found.of_samples["effective_scans"].tolist() == list(range(7))
    assert found.sizes == [2, 1, 1, 3]
    assert found.mean_losses() == {"total_loss": (2 * 0 + 2 + 3 + 3 * 4) / 7}


def test_where_nobody_took_a_step_there_is_nothing():
    assert joined([None, None]) is None
