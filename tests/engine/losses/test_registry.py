from __future__ import annotations

from pkgutil import resolve_name

import pytest
import torch
from torch import nn

from engine.losses.per_sample import CrossEntropy
from engine.losses.registry import (
    FITTING,
    LOSSES,
    choose_loss,
)
from engine.losses.weighted import Term
from engine.metrics import TASKS
from tests.no_waiting import NoWaiting

EXTREMES = {"small": 1e-4, "usual": 1.0, "extreme": 1e4}


def build(name):
    cls = resolve_name(LOSSES[name])
    if name != "weighted":
        return cls()
    # What a head predicts is of no task, so any task's targets will do.
    return cls({"main": build("l2"), "pair": Term(build("info_nce"), 0.1)})


def problem(task, batch=6, scale=1.0, dtype=torch.float32):
    """Outputs that take gradients, and targets, of a task with three classes, labels or values."""
    generator = torch.Generator().manual_seed(1)
    width = 2 if task == "binary" else 3
    names = ("logits", "aux_logits_spec", "aux_logits_tab")
    widths = dict.fromkeys(names, width) | {
        "embedding": 4,
        "spec_projection": 5,
        "tab_projection": 5,
    }
    outputs = {
        name: (scale * torch.randn(batch, size, generator=generator)).to(dtype).requires_grad_()
        for name, size in widths.items()
    }
    draw = torch.randn(batch, width, generator=generator)
    classes = torch.arange(batch) % width
    targets = {"multilabel": (draw > 0).float(), "regression": draw}.get(task, classes)
    return outputs, targets


CASES = [(name, task) for name, tasks in FITTING.items() for task in tasks]


def test_every_loss_says_which_tasks_it_fits():
    assert FITTING.keys() == LOSSES.keys()
    assert set(sum(FITTING.values(), ())) == set(TASKS)


@pytest.mark.parametrize("scale", EXTREMES.values(), ids=list(EXTREMES))
@pytest.mark.parametrize("batch", [1, 6])
@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_loss_and_its_gradient_are_finite(name, task, batch, scale):
    outputs, targets = problem(task, batch, scale)
    terms = build(name)(outputs, targets)
    assert all(term.ndim == 0 and torch.isfinite(term) for term in terms.values())
    terms["total_loss"].backward()
    gradients = [value.grad for value in outputs.values() if value.grad is not None]
    assert gradients
    assert all(torch.isfinite(gradient).all() for gradient in gradients)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_every_loss_of_half_precision_outputs_is_fp32(name, task):
    outputs, targets = problem(task, dtype=torch.bfloat16)
    loss = build(name)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = loss(outputs, targets)
    assert all(term.dtype == torch.float32 for term in terms.values())
    if name == "tft":
        return  # its contrast of the modalities is multiplied as autocast says
    exact = loss({key: value.float() for key, value in outputs.items()}, targets)
    for key, term in terms.items():
        torch.testing.assert_close(term, exact[key], rtol=1e-6, atol=0)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_no_loss_asks_the_device_for_a_value(name, task):
    outputs, targets = problem(task)
    loss = build(name)
    with NoWaiting():
        loss(outputs, targets)["total_loss"].backward()


def test_the_models_own_loss_wins_over_the_configured_one():
    class WithLoss(nn.Linear):
        def compute_loss(self, outputs, targets, aux=None):
            return {"total_loss": torch.tensor(7.0)}

    configured = CrossEntropy()
    assert choose_loss(WithLoss(1, 1), configured)({}, None)["total_loss"] == 7.0
    assert choose_loss(nn.Linear(1, 1), configured) is configured
