from __future__ import annotations

import pytest
import torch
from torch import nn

from datasets.errors import UsageError
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.default_training import Names, find_task
from models.tft_loss import TFTLoss
from tests.experiments.report.made_outputs import make_outputs


def test_as_many_names_as_things_are_needed():
    torch.manual_seed(0)
    batch = AnyLoader([(torch.ones(2, 1, 5), None, torch.ones(2, 3), [0, 1])], "x").first()
    Names(["a", "b"], ["x", "y", "z"], torch.arange(5).numpy()).check(2, batch)
    for names, words in (
        (Names(classes=["a"]), "class_names: 1 given, but there are 2"),
        (Names(covariates=["x"]), "covariate_names: 1 given, but there are 3"),
        (Names(axis=torch.arange(4).numpy()), "axis: 4 given, but there are 5"),
    ):
        with pytest.raises(UsageError, match=words):
            names.check(2, batch)


def test_outputs_without_names_have_their_numbers():
    assert Names().of_outputs(make_outputs("multilabel")) == ["label 0", "label 1", "label 2"]
    assert Names(["no", "yes"]).of_outputs(make_outputs("binary")) == ["no", "yes"]


B, S, L, D = 6, 2, 8, 3
CPU = torch.device("cpu")
HEADS = ("aux_logits_spec", "aux_logits_tab")
CLASSES = torch.tensor([0, 1, 0, 1, 1, 0])


class Linear(nn.Module):
    """Logits from the covariates, with what else a model may bring."""

    def __init__(self, width: int, auxiliary: bool = False) -> None:
        super().__init__()
        self.head = nn.Linear(D, width)
        self.auxiliary = auxiliary

    def forward(self, spectra, mask, tabular):
        logits = self.head(tabular)
        return {"logits": logits, **(dict.fromkeys(HEADS, logits) if self.auxiliary else {})}


def loader(target):
    torch.manual_seed(0)
    return AnyLoader([(torch.randn(B, S, L), None, torch.randn(B, D), target)], "train_loader")


@pytest.mark.parametrize(
    ("target", "width", "task", "monitor"),
    [
        (CLASSES, 2, "binary", "val/auroc"),
        (CLASSES, 4, "multiclass", "val/auroc"),
        (torch.stack([CLASSES, 1 - CLASSES], dim=1), 2, "multilabel", "val/auroc"),
        (torch.randn(B), 1, "regression", "val/loss"),
        (torch.randn(B, 2), 2, "regression", "val/loss"),
    ],
)
def test_the_task_follows_from_targets_and_logits(target, width, task, monitor):
    own = loader(target)
    found = find_task(Linear(width), own, CPU)
    assert (found.name, found.outputs, found.monitor) == (task, width, monitor)
    assert found.mode == ("min" if task == "regression" else "max")
    batch = own.first()
    loss = found.loss(Linear(width)(batch.spectra, batch.mask, batch.tabular), batch.target)
    assert torch.isfinite(loss["total_loss"])
    assert "total_loss" in found.loss_terms


def test_what_it_is_called_wins_over_what_it_looks_like():
    labels = torch.stack([CLASSES, 1 - CLASSES], dim=1).float()
    assert find_task(Linear(2), loader(labels), CPU).name == "regression"
    assert find_task(Linear(2), loader(labels), CPU, "multilabel").name == "multilabel"


def test_auxiliary_heads_are_trained_along():
    assert isinstance(find_task(Linear(2, auxiliary=True), loader(CLASSES), CPU).loss, TFTLoss)
    assert not isinstance(find_task(Linear(2), loader(CLASSES), CPU).loss, TFTLoss)


def test_the_models_own_loss_wins():
    class Own(Linear):
        def compute_loss(self, outputs, targets, aux=None):
            return {
                "total_loss": outputs["logits"].square().mean(),
                "size": outputs["logits"].sum(),
            }

    model = Own(2)
    found = find_task(model, loader(CLASSES), CPU)
    assert found.loss == model.compute_loss
    assert found.loss_terms == ["total_loss", "size"]


def test_finding_the_task_changes_no_model_and_no_rng():
    class Dropped(Linear):
        def __init__(self) -> None:
            super().__init__(2)
            self.drop = nn.Dropout(0.5)

        def forward(self, spectra, mask, tabular):
            return super().forward(spectra, mask, self.drop(tabular))

    model = Dropped()
    model.drop.eval()
    torch.manual_seed(3)
    expected = torch.rand(1)
    own = loader(CLASSES)
    torch.manual_seed(3)
    find_task(model, own, CPU)
    assert torch.equal(torch.rand(1), expected)
    assert model.training
    assert not model.drop.training


@pytest.mark.parametrize(
    ("target", "width", "task", "words"),
    [
        (CLASSES.float(), 2, None, r"\[6, 1\] for regression, .* 2 outputs; classes must be whole"),
        (CLASSES, 1, None, "logits for 1 classes; multiclass needs at least 2"),
        (CLASSES, 3, "binary", "logits for 3 classes; binary needs 2"),
        (CLASSES.float(), 2, "binary", "binary needs whole-number labels"),
        (CLASSES, 2, "regresion", "did you mean 'regression'"),
        (torch.stack([CLASSES] * 3, dim=1), 2, None, r"\[6, 3\] for multilabel"),
    ],
)
def test_what_does_not_belong_together_is_said_in_a_line(target, width, task, words):
    with pytest.raises(UsageError, match=words) as error:
        find_task(Linear(width), loader(target), CPU, task)
    assert "\n" not in str(error.value)


def test_a_model_that_does_not_keep_the_contract_is_named():
    class Bare(Linear):
        def forward(self, spectra, mask, tabular):
            return self.head(tabular)

    class Flat(Linear):
        def forward(self, spectra, mask, tabular):
            return {"logits": self.head(tabular)[:, 0]}

    with pytest.raises(UsageError, match="model Bare must return a dict with 'logits'"):
        find_task(Bare(2), loader(CLASSES), CPU)
    with pytest.raises(UsageError, match=r"model Flat gives logits of shape \[6\] for 6 samples"):
        find_task(Flat(2), loader(CLASSES), CPU)


def test_classes_beyond_the_logits_are_refused_in_any_batch():
    own = loader(CLASSES)
    find_task(Linear(2), own, CPU)
    own.loader.append((torch.randn(B, S, L), None, torch.randn(B, D), CLASSES + 1))
    with pytest.raises(UsageError, match="batch 1: label 2"):
        list(own)
