from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from engine.metrics.step_outputs import joined, mean_losses, order_of, packed, rows_in_order
from tests.engine import joint_metrics_work
from tests.shared_problem import build_model, largest_difference


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


MEASURED = ("metrics", "logits", "sample_id", "vectors")


@pytest.mark.parametrize("processes", ["two_processes", "three_processes"])
@pytest.mark.parametrize(("found", "batch_size"), [("together", 2), ("two_batches", 3)])
def test_metrics_do_not_depend_on_the_number_of_processes(processes, found, batch_size, request):
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


def kept(*batches: list[float]) -> list[dict[str, Any]]:
    steps = []
    for batch in batches:
        values = torch.tensor(batch)
        steps.append(
            {
                "logits": values[:, None],
                "target": values,
                "sample_id": [f"s{value:g}" for value in batch],
                "losses": {"total_loss": values[0].double()},
                "of_samples": {"effective_scans": values.double()},
            }
        )
    return steps


def test_steps_take_turns_and_losses_are_means_over_samples():
    steps = joined(
        [packed(kept(*own)) for own in ([[0.0, 1.0], [3.0]], [[2.0], [4.0, 5.0, 6.0]], [])]
    )
    assert [name for step in steps for name in step["sample_id"]] == [f"s{n}" for n in range(7)]
    target = torch.cat([step["target"] for step in steps])
    of_samples = torch.cat([step["of_samples"]["effective_scans"] for step in steps])
    assert target.tolist() == of_samples.tolist() == list(range(7))
    assert [step["logits"].shape for step in steps] == [(2, 1), (1, 1), (1, 1), (3, 1)]
    sizes = [len(step["target"]) for step in steps]
    assert sizes == [2, 1, 1, 3]
    losses = {"total_loss": torch.stack([step["losses"]["total_loss"] for step in steps])}
    assert mean_losses(losses, sizes, {}) == {"total_loss": (2 * 0 + 2 + 3 + 3 * 4) / 7}


def test_where_nobody_took_a_step_there_is_nothing():
    assert joined([packed([]), packed([])]) == []


def test_steps_of_ranks_are_joined_in_order():
    parts = [packed([{"x": torch.tensor([n])} for n in own]) for own in ([0, 2], [1])]
    assert [step["x"].item() for step in joined(parts)] == [0, 1, 2]


def test_rows_follow_an_order_or_the_natural_one():
    assert rows_in_order(["c", "a", "b"], order=["b", "c", "a"]) == [2, 0, 1]
    assert rows_in_order(["s10", "s2"]) == [1, 0]
