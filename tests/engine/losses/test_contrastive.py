from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from datasets.errors import UsageError
from engine.losses.contrastive import ModalityContrastive, SupervisedContrastive

torch.manual_seed(0)
EMBEDDING, CLASSES = torch.randn(9, 5), torch.tensor([0, 0, 0, 1, 1, 2, 0, 1, 3])


def by_hand(embedding, classes, temperature):
    """Khosla et al. 2020, equation 2, term by term."""
    unit = functional.normalize(embedding.double(), dim=1)
    terms = []
    for i in range(len(unit)):
        others = [a for a in range(len(unit)) if a != i]
        partners = [p for p in others if classes[p] == classes[i]]
        all_others = sum(math.exp(float(unit[i] @ unit[a]) / temperature) for a in others)
        if partners:
            logs = [float(unit[i] @ unit[p]) / temperature for p in partners]
            terms.append(-sum(log - math.log(all_others) for log in logs) / len(logs))
    return sum(terms) / len(terms)


@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_supervised_contrast_is_the_published_formula(temperature):
    loss = SupervisedContrastive(temperature)({"embedding": EMBEDDING}, CLASSES)["total_loss"]
    assert loss.item() == pytest.approx(by_hand(EMBEDDING, CLASSES, temperature), rel=1e-5)


@pytest.mark.parametrize("classes", [[0], [0, 1, 2]])
def test_supervised_contrast_without_partners_is_zero(classes):
    embedding = torch.randn(len(classes), 4, requires_grad=True)
    loss = SupervisedContrastive()({"embedding": embedding}, torch.tensor(classes))["total_loss"]
    loss.backward()
    assert loss.item() == 0
    assert embedding.grad is not None
    assert torch.equal(embedding.grad, torch.zeros_like(embedding))


def test_supervised_contrast_needs_classes():
    with pytest.raises(UsageError, match="supcon needs class numbers"):
        SupervisedContrastive()({"embedding": EMBEDDING}, torch.zeros(9, 2))


def test_modalities_are_contrasted_on_projections_first():
    spec, tab = torch.randn(6, 4), torch.randn(6, 4)
    unit = [functional.normalize(side, dim=1) for side in (spec, tab)]
    similarity, partner = unit[0] @ unit[1].T / 0.1, torch.arange(6)
    expected = (
        functional.cross_entropy(similarity, partner)
        + functional.cross_entropy(similarity.T, partner)
    ) / 2
    loss = ModalityContrastive(0.1)
    embeddings = {"spec_embedding": spec, "tab_embedding": tab}
    torch.testing.assert_close(loss(embeddings, CLASSES)["total_loss"], expected)
    projections = {"spec_projection": spec, "tab_projection": tab}
    other = {"spec_embedding": torch.randn(6, 3), "tab_embedding": torch.randn(6, 2)}
    torch.testing.assert_close(loss({**projections, **other}, CLASSES)["total_loss"], expected)


def test_what_cannot_be_compared_is_refused_with_what_there_is():
    unlike = {"spec_embedding": torch.zeros(2, 3), "tab_embedding": torch.zeros(2, 4)}
    with pytest.raises(
        UsageError, match=r"returns spec_embedding \[2, 3\], tab_embedding \[2, 4\]"
    ):
        ModalityContrastive()(unlike, CLASSES)
    with pytest.raises(
        UsageError, match=r"needs of the model spec_projection .* it returns none of them"
    ):
        ModalityContrastive()({"logits": torch.zeros(2, 2)}, CLASSES)
    assert not ModalityContrastive().can_read(unlike)
    like = {"spec_embedding": torch.zeros(2, 3), "tab_embedding": torch.zeros(2, 3)}
    assert ModalityContrastive().can_read(like)
    assert not ModalityContrastive(projections_only=True).can_read(like)


@pytest.mark.parametrize("cls", [SupervisedContrastive, ModalityContrastive])
def test_a_temperature_of_zero_is_refused(cls):
    with pytest.raises(ValueError, match=r"temperature: a number above 0"):
        cls(temperature=0)


@pytest.mark.parametrize("loss", [SupervisedContrastive(0.01), ModalityContrastive(0.01)])
def test_similarities_are_single_precision_also_under_autocast(loss):
    wide = torch.randn(32, 64)
    outputs = {"embedding": wide, "spec_projection": wide, "tab_projection": wide.roll(1, 0)}
    targets = torch.arange(32) % 4
    expected = loss(outputs, targets)["total_loss"]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(loss(outputs, targets)["total_loss"], expected)


def test_a_pair_of_one_class_against_one_other_is_as_computed_by_hand():
    embedding = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    loss = SupervisedContrastive(temperature=1.0)
    terms = loss({"embedding": embedding}, torch.tensor([0, 0, 1]))
    # log(1 + exp(-1)) for each of the two
    assert terms["total_loss"].item() == pytest.approx(0.31326, abs=1e-4)
