from __future__ import annotations

import inspect
from pkgutil import resolve_name

import pytest
import torch

from engine.losses import FITTING, LOSSES
from engine.metrics import TASKS
from experiments.builders import build_loss
from experiments.config import find_named
from experiments.config.schema import WITH_AUXILIARY_HEADS, default_loss
from models import MODELS
from models.tft_loss import TFTLoss

AUXILIARY = {"aux_logits_spec", "aux_logits_tab"}
WIDTHS = {"binary": 2, "multiclass": 3, "multilabel": 3, "regression": 2}


def outputs_of(name, width):
    offered = {"tab_dim": 3, "spec_len": 64, "num_classes": width}
    takes = inspect.signature(find_named(name, MODELS, "name")).parameters
    torch.manual_seed(0)
    model = find_named(name, MODELS, "name")(
        **{key: value for key, value in offered.items() if key in takes}
    )
    mask = torch.ones(6, 2, dtype=torch.bool)
    return model, model(torch.randn(6, 2, 64), mask, torch.randn(6, 3))


def targets_of(task):
    draw = torch.randn(6, WIDTHS[task], generator=torch.Generator().manual_seed(0))
    classes = torch.arange(6) % WIDTHS[task]
    return {"multilabel": (draw > 0).float(), "regression": draw}.get(task, classes)


@pytest.mark.parametrize("name", MODELS)
def test_models_with_auxiliary_heads_return_their_logits(name):
    _, outputs = outputs_of(name, 2)
    assert (name in WITH_AUXILIARY_HEADS) == (outputs.keys() >= AUXILIARY)


@pytest.mark.parametrize("task", TASKS)
@pytest.mark.parametrize("name", MODELS)
def test_the_default_suits_every_model_and_reaches_its_heads(name, task):
    model, outputs = outputs_of(name, WIDTHS[task])
    chosen, params = default_loss(task, name in WITH_AUXILIARY_HEADS, {})
    targets = targets_of(task)
    loss = build_loss(chosen, params, task, targets, WIDTHS[task])
    loss(outputs, targets)["total_loss"].backward()
    trained = {n.partition(".")[0] for n, p in model.named_parameters() if p.grad is not None}
    assert {n.partition(".")[0] for n, _ in model.named_parameters()} == trained


@pytest.mark.parametrize("task", TASKS)
def test_the_default_is_a_loss_of_the_task(task):
    for has_heads in (True, False):
        name, _ = default_loss(task, has_heads, {})
        assert task in FITTING[name]
    assert default_loss("auto", True, {})[0] == "tft"


def test_terms_are_weighted_as_in_the_transformers_loss():
    own = resolve_name(LOSSES["tft"])()
    assert isinstance(own, TFTLoss)
    terms = default_loss("regression", True, {})[1]["terms"]
    weights = {name: term.get("weight", 1) for name, term in terms.items()}
    assert weights == {
        "main_loss": 1,
        "aux_spec_loss": own.aux_spec_weight,
        "aux_tab_loss": own.aux_tab_weight,
        "contrastive_loss": own.contrastive_weight,
    }


def test_unnamed_parameters_go_to_every_target_term():
    _, params = default_loss("multilabel", True, {"pos_weight": "balanced"})
    given = {name: term.get("params") for name, term in params["terms"].items()}
    for name in ("main_loss", "aux_spec_loss", "aux_tab_loss"):
        assert given[name] == {"pos_weight": "balanced"}
    assert default_loss("multilabel", False, {"pos_weight": [1]}) == (
        "bce",
        {"pos_weight": [1]},
    )
    terms = {"terms": {"main": "focal"}}
    assert default_loss("binary", True, terms) == ("weighted", terms)
