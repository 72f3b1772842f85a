from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.explain.collectors import AuxiliaryHeads, Embeddings, Gates, ScanAttention
from models import TFTMultimodal
from tests.engine.measured import SCANS, make_loader, measure
from tests.models.small_batch import small_model
from tests.tiny_problem import TinyLoader


def test_both_heads_logits_are_kept_in_the_loaders_order():
    model, loader, heads = small_model("tft", num_classes=3), make_loader(), AuxiliaryHeads()
    measure(model, loader, heads)
    model.eval()
    parts = [model(batch.spectra, batch.mask, batch.tabular) for batch in loader]
    assert heads.logits is not None
    for found, name in zip(heads.logits, ("aux_logits_spec", "aux_logits_tab"), strict=True):
        torch.testing.assert_close(found, torch.cat([part[name] for part in parts]).detach())


@pytest.mark.parametrize("name", ["spectra_only", "mean_linear", "tabular_only"])
def test_a_model_of_one_modality_has_none(name):
    heads = AuxiliaryHeads()
    measure(small_model(name), make_loader(), heads)
    assert heads.logits is None


def test_every_samples_embedding_is_kept_in_the_loaders_order(make_trainer, make_evaluator):
    trainer = make_trainer()
    evaluator, embeddings = make_evaluator(trainer), Embeddings()
    embeddings.attach(evaluator)
    loader = TinyLoader(samples=18)
    evaluator.evaluate(loader)
    points = torch.cat([batch.spectra for batch in loader])
    expected = trainer.model.eval()(points, None, None)["embedding"]
    assert embeddings.source == "embedding"
    torch.testing.assert_close(embeddings.vectors, expected.detach())


def test_a_second_evaluation_starts_afresh(make_trainer, make_evaluator):
    evaluator, embeddings = make_evaluator(make_trainer()), Embeddings()
    embeddings.attach(evaluator)
    evaluator.evaluate(TinyLoader(samples=18))
    evaluator.evaluate(TinyLoader(samples=7))
    assert len(embeddings.vectors) == 7


def test_logits_replace_a_missing_embedding(make_trainer, make_evaluator):
    class OnlyLogits(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, spectra, mask, tabular):
            return {"logits": self.inner(spectra, mask, tabular)["logits"]}

    trainer = make_trainer()
    trainer.model = OnlyLogits(trainer.model)
    evaluator, embeddings = make_evaluator(trainer), Embeddings()
    embeddings.attach(evaluator)
    evaluator.evaluate(TinyLoader())
    assert embeddings.source == "logits"
    assert torch.equal(embeddings.vectors, evaluator.metrics.outputs.logits)


def test_a_later_evaluation_is_not_kept_once_detached(make_trainer, make_evaluator):
    evaluator, embeddings = make_evaluator(make_trainer()), Embeddings()
    embeddings.attach(evaluator)
    evaluator.evaluate(TinyLoader(samples=18))
    embeddings.detach(evaluator)
    evaluator.evaluate(TinyLoader(samples=7))
    assert len(embeddings.vectors) == 18


@pytest.mark.parametrize(
    ("own", "source"),
    [
        (("embedding", "spec_embedding", "tab_embedding"), "embedding"),
        (("spec_embedding", "tab_embedding"), "spec_embedding and tab_embedding"),
        (("tab_embedding",), "tab_embedding"),
        ((), "logits"),
    ],
)
def test_the_vectors_of_the_modalities_stand_in_too(make_trainer, make_evaluator, own, source):
    class Returns(nn.Module):
        def forward(self, spectra, mask, tabular):
            first = spectra.mean(dim=1)
            given = {
                "embedding": first,
                "spec_embedding": first[:, :1] + 1,
                "tab_embedding": first[:, :3] + 2,
            }
            return {
                "logits": first[:, :2],
                **{name: given[name] if name in own else None for name in given},
            }

    trainer = make_trainer()
    trainer.model = Returns()
    evaluator, embeddings = make_evaluator(trainer), Embeddings()
    embeddings.attach(evaluator)
    evaluator.evaluate(TinyLoader())
    batches = [Returns()(batch.spectra, None, None) for batch in TinyLoader()]
    names = source.split(" and ")
    expected = torch.cat([torch.cat([batch[name] for name in names], dim=1) for batch in batches])
    assert embeddings.source == source
    assert torch.equal(embeddings.vectors, expected)


def gates_of(model, loader):
    gates = Gates()
    measure(model, loader, gates)
    return gates


def outputs_of(model, loader, *, covariates=True):
    model.eval()
    with torch.no_grad():
        parts = [
            model(b.spectra, b.mask, b.tabular if covariates else torch.zeros_like(b.tabular))
            for b in loader
        ]
    return {
        name: torch.cat([part[name] for part in parts]) for name in ("spec_embedding", "gated_spec")
    }


def test_movement_is_the_change_by_the_covariates():
    model, loader = small_model("tft"), make_loader()
    gates = gates_of(model, loader)
    own, without = outputs_of(model, loader), outputs_of(model, loader, covariates=False)
    expected = (own["gated_spec"] - without["gated_spec"]).norm(dim=1)
    torch.testing.assert_close(gates.movement, expected / without["gated_spec"].norm(dim=1))
    assert (gates.movement > 0).all()


def test_change_is_from_before_the_gate_to_behind_it():
    model, loader = small_model("tft"), make_loader()
    gates = gates_of(model, loader)
    own = outputs_of(model, loader)
    expected = (own["gated_spec"] - own["spec_embedding"]).norm(dim=1)
    torch.testing.assert_close(gates.change, expected / own["spec_embedding"].norm(dim=1))


def test_ignored_covariates_move_nothing_though_the_norm_does():
    model = small_model("tft")
    assert isinstance(model, TFTMultimodal)
    width = model.gating.value.in_features
    with torch.no_grad():
        for layer in (model.gating.gates, model.gating.merge):
            layer.weight[:, width:] = 0
    gates = gates_of(model, make_loader())
    assert gates.movement.max() == pytest.approx(0, abs=1e-6)
    assert gates.change.min() > 0.1


def test_a_model_without_a_gate_has_no_movement():
    gates = gates_of(small_model("late_fusion"), make_loader())
    assert gates.movement is None
    assert gates.change is None


def test_a_model_without_a_gate_is_called_once_a_batch():
    class Counting(nn.Module):
        def __init__(self, inner):
            super().__init__()
            self.inner, self.calls = inner, 0

        def forward(self, spectra, mask, tabular):
            self.calls += 1
            return self.inner(spectra, mask, tabular)

    without, gated = Counting(small_model("mean_linear")), Counting(small_model("tft"))
    for model in (without, gated):
        measure(model, make_loader(), Gates())
    assert (without.calls, gated.calls) == (2, 4)


def kept_of(model, loader=None):
    attention = ScanAttention()
    measure(model, loader or make_loader(), attention)
    return attention


def test_each_real_scan_has_its_weight_in_the_loaders_order():
    model, loader = small_model("tft"), make_loader()
    attention = kept_of(model, loader)
    assert attention.name == "scan_pooling"
    assert [len(own) for own in attention.weights] == [n for batch in SCANS for n in batch]
    model.eval()
    by_hand = []
    for batch in loader:
        found = model(batch.spectra, batch.mask, batch.tabular)["attention_weights"]
        by_hand += [w[m] for w, m in zip(found["scan_pooling"], batch.mask, strict=True)]
    for own, expected in zip(attention.weights, by_hand, strict=True):
        torch.testing.assert_close(own.float(), expected.detach())
        assert own.sum() == pytest.approx(1)


def test_scan_pooling_is_preferred_to_other_weights():
    assert kept_of(small_model("attention")).name == "scan_pooling"


@pytest.mark.parametrize("name", ["mean_linear", "tabular_only"])
def test_covariate_weights_are_not_mistaken_for_scan_weights(name):
    attention = kept_of(small_model(name))
    assert attention.name is None
    assert attention.weights is None


def test_another_model_is_looked_at_anew():
    attention = kept_of(small_model("tft"))
    measure(small_model("mean_linear"), make_loader(), attention)
    assert attention.weights is None


@pytest.mark.parametrize("form", [lambda weights: weights, lambda weights: [None, weights]])
def test_weights_without_a_name_are_taken_too(form):
    class Attends(nn.Module):
        def forward(self, spectra, mask, tabular):
            return {"logits": spectra[:, 0, :2], "attention_weights": form(mask.float())}

    attention = kept_of(Attends())
    assert attention.name is not None
    assert [len(own) for own in attention.weights] == [n for batch in SCANS for n in batch]
    assert all(torch.allclose(own, own.mean()) for own in attention.weights)
