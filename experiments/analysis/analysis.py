"""What was found out about a tested model beyond its metrics."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import torch

from engine.explain import Explained
from engine.metrics import AttentionSummary
from engine.statistics import Calibration, OperatingPoint


@dataclass(frozen=True)
class TestAnalysis:
    """Of the test side; each part empty or None where it does not apply or was not asked for.

    Attributes:
        decisions: What is ranked (the positive class, each class against the rest, or each
            label) -> operating points, the configured one first.
        calibration: Of a classification.
        explained: Attributions, of the first so many samples in the cohort's order: one set of the
            predicted class, or one for each label or value explained; empty where nothing was.
        attention: What the model attends to, over many samples.
        scan_weights: The weight of each real scan, [S_i], for each test sample in the order of
            the outputs; None of a model that pools no scans by attention.
        gate: By how much the covariates move the spectra's vector, relative to its length, [N];
            None of a model without a gate.
        heads: Logits of the spectra's and of the covariates' auxiliary head, [N, C] each; None of
            a model without both.
        embedding: The samples' vectors, [N, E].
        embedding_source: What they are (:attr:`engine.explain.collectors.Embeddings.source`).
    """

    decisions: Mapping[str, Sequence[OperatingPoint]] = field(default_factory=dict)
    calibration: Calibration | None = None
    explained: Sequence[Explained] = ()
    attention: AttentionSummary | None = None
    scan_weights: Sequence[torch.Tensor] | None = None
    gate: torch.Tensor | None = None
    heads: tuple[torch.Tensor, torch.Tensor] | None = None
    embedding: torch.Tensor | None = None
    embedding_source: str = "embedding"

    def take(self, rows: Sequence[int]) -> TestAnalysis:
        """The same of some samples, in the order of ``rows``; what is of many stays as it is."""
        chosen = list(rows)
        weights, heads = self.scan_weights, self.heads
        return replace(
            self,
            scan_weights=None if weights is None else [weights[row] for row in chosen],
            gate=None if self.gate is None else self.gate[chosen],
            heads=None if heads is None else (heads[0][chosen], heads[1][chosen]),
            embedding=None if self.embedding is None else self.embedding[chosen],
        )


def about_unexplained(findings: TestAnalysis) -> str:
    """That not every label or value was explained, in words; empty where each was."""
    sets = findings.explained
    if len(sets) < 2 or len(sets) >= sets[0].outputs:
        return ""
    return f"attributions are of the first {len(sets)} of {sets[0].outputs} outputs"
