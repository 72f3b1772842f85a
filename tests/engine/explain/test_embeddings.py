from __future__ import annotations

import pytest
import torch
from torch import nn

from engine.explain.embeddings import Embeddings
from tests.tiny_problem import TinyLoader


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


def test_logits_stand_in_for_an_embedding_that_a_model_does_not_give(make_trainer, make_evaluator):
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
