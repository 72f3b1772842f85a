from __future__ import annotations

import pytest
import torch
from torch import Tensor

from datasets.errors import UsageError
from engine.losses import FocalLoss, HuberLoss, SupervisedContrastive, WeightedLoss
from experiments.builders.loss import build_loss

CLASSES = torch.tensor([0, 0, 0, 1])
LABELS = torch.tensor([[1, 0], [0, 1], [0, 1], [0, 1]])
VALUES = torch.zeros(4, 1)


def test_a_composition_is_built_term_by_term_by_name():
    terms = {
        "main": {"name": "focal", "params": {"gamma": 3.0, "alpha": "balanced"}},
        "aux_spec": {"name": "cross_entropy", "on": "aux_logits_spec", "weight": 0.3},
        "contrast": {"name": "supcon", "weight": 0.02, "optional": True},
        "pair": "info_nce",
    }
    loss = build_loss("weighted", {"terms": terms}, "binary", CLASSES, 2)
    assert isinstance(loss, WeightedLoss)
    main, aux, contrast, pair = loss.terms.values()
    assert isinstance(main.loss, FocalLoss)
    assert main.loss.gamma == 3.0
    assert main.loss.alpha is not None
    assert main.loss.alpha.tolist() == pytest.approx([2 / 3, 2.0])
    assert (aux.on, aux.weight) == ("aux_logits_spec", 0.3)
    assert isinstance(contrast.loss, SupervisedContrastive)
    assert contrast.optional
    assert pair.weight == 1.0


def test_balanced_is_filled_from_the_training_part():
    loss = build_loss("cross_entropy", {"class_weights": "balanced"}, "binary", CLASSES, 2)
    assert isinstance(loss.class_weights, Tensor)
    assert loss.class_weights.tolist() == pytest.approx([2 / 3, 2.0])
    loss = build_loss("bce", {"pos_weight": "balanced"}, "multilabel", LABELS, 2)
    assert isinstance(loss.pos_weight, Tensor)
    assert loss.pos_weight.tolist() == pytest.approx([3.0, 1 / 3])


def test_a_loss_of_ones_own_is_found_by_its_dotted_path_also_as_a_term(tmp_path, monkeypatch):
    (tmp_path / "my_loss.py").write_text(
        "from torch import nn\n"
        "class Mine(nn.Module):\n"
        "    def __init__(self, power=1): super().__init__(); self.power = power\n"
        "    def forward(self, outputs, targets, aux=None):\n"
        "        missed = (outputs['logits'] - targets).abs()\n"
        "        return {'total_loss': missed.pow(self.power).mean()}\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    terms = {
        "main": {"name": "my_loss.Mine", "params": {"power": 2}},
        "aux": {"name": "my_loss.Mine", "on": "aux_logits_tab", "weight": 0.5},
    }
    loss = build_loss("weighted", {"terms": terms}, "regression", VALUES, 1)
    outputs = {"logits": VALUES + 3, "aux_logits_tab": VALUES + 4}
    assert loss(outputs, VALUES)["total_loss"].item() == 9 + 0.5 * 4


def test_parameters_reach_the_loss():
    assert build_loss("huber", {"delta": 0.5}, "regression", VALUES, 1).delta == 0.5
    assert isinstance(build_loss("huber", {}, "regression", VALUES, 1), HuberLoss)


def terms(**spec):
    return {"terms": {"main": {"name": "focal", **spec}}}


@pytest.mark.parametrize(
    ("name", "params", "task", "message"),
    [
        ("focall", {}, "binary", "loss.name: nothing is called 'focall'; did you mean 'focal'"),
        ("focal", {"gama": 1}, "binary", "loss.params: FocalLoss .* 'gama'; did you mean 'gamma'"),
        (
            "focal",
            {"gamma": -1},
            "binary",
            r"focal\.gamma: a number at least 0 was expected, not -1",
        ),
        ("bce", {}, "binary", r"'bce' does not fit task 'binary' \(choices: cross_entropy, tft"),
        ("cross_entropy", {}, "regression", r"does not fit task 'regression' \(choices: mse, hub"),
        ("mse", {}, "multilabel", r"'mse' does not fit task 'multilabel' \(choices: focal, bce"),
        (
            "tft",
            {"class_weights": [1, 2, 3]},
            "binary",
            "loss.params.class_weights: 3 numbers given, 2 are needed",
        ),
        (
            "cross_entropy",
            {"class_weights": "balancd"},
            "binary",
            r"class_weights must be numbers from 0 \(or 'balanced'\)",
        ),
        ("weighted", {}, "binary", "WeightedLoss needs 'terms'"),
        ("weighted", {"terms": 3}, "binary", "terms must map at least one name"),
        (
            "weighted",
            terms(name="focl"),
            "binary",
            "loss.params.terms.main.name: .*did you mean 'focal'",
        ),
        ("weighted", terms(weigth=1), "binary", "main.weigth'; did you mean '.*main.weight'"),
        ("weighted", terms(weight=-1), "binary", "main.weight: .*greater than or equal to 0"),
        ("weighted", terms(on=3), "binary", "main.on: .*valid string, got 3"),
        ("weighted", terms(params={"x": 1}), "binary", "main.params: FocalLoss has no .*'x'"),
        ("weighted", terms(), "regression", "main.name: 'focal' does not fit task 'regression'"),
        ("weighted", {"terms": {"main": 3}}, "binary", "loss.params.terms.main: .*got 3"),
        ("weighted", {"terms": {"f1": "focal"}}, "binary", "a term cannot be called 'f1'"),
    ],
)
def test_what_is_wrong_is_one_line_that_names_it(name, params, task, message):
    targets = {"binary": CLASSES, "multilabel": LABELS, "regression": VALUES}[task]
    with pytest.raises(UsageError, match=message) as error:
        build_loss(name, params, task, targets, 1 if task == "regression" else 2)
    assert "\n" not in str(error.value)
