from __future__ import annotations

import torch

from engine.evaluator import Evaluator
from engine.losses import CrossEntropy
from engine.metrics import EpochMetrics
from experiments.analysis.collector import AnalysisCollector
from tests.engine.measured import make_loader
from tests.models.small_batch import small_model

SAMPLES = 5


def evaluate(name, kept, evaluations=1):
    evaluator = Evaluator(small_model(name), CrossEntropy(), EpochMetrics())
    with kept.attached(evaluator):
        for _ in range(evaluations):
            evaluator.evaluate(make_loader())
    return evaluator


def findings_of(kept):
    return kept.findings()


def test_one_evaluation_finds_vectors_weights_gate_and_heads():
    kept = AnalysisCollector()
    evaluate("tft", kept, evaluations=2)
    found = findings_of(kept)
    assert found.embedding.shape == (SAMPLES, 20)
    assert found.embedding_source == "embedding"
    assert [len(own) for own in found.scan_weights] == [5, 1, 2, 3, 1]
    assert found.gate.shape == (SAMPLES,)
    assert [tuple(head.shape) for head in found.heads] == [(SAMPLES, 2)] * 2


def test_what_a_model_does_not_have_is_none():
    kept = AnalysisCollector()
    evaluate("mean_linear", kept)
    found = kept.findings(calibration=None)
    assert (found.scan_weights, found.gate, found.heads) == (None, None, None)
    assert found.embedding is not None


def test_later_evaluations_are_not_kept():
    kept = AnalysisCollector()
    evaluator = evaluate("tft", kept)
    before = findings_of(kept)
    evaluator.evaluate(make_loader(seed=1))
    assert torch.equal(findings_of(kept).embedding, before.embedding)
