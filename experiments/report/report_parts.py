"""What the report says of a tested model beyond its decisions."""

from __future__ import annotations

from experiments.report.figures import FindingSections
from experiments.report.report_content import Part

NOT_EXPLAINED = "No attributions were computed."
NO_VECTORS = "Embeddings were not stored."
NO_ATTENTION = "Attention was not measured."


def report_parts(drawn: FindingSections) -> list[Part]:
    """Parts of the page; where nothing was found out a sentence says so.

    Args:
        drawn: Of a tested run.
    """
    return [
        Part("importance", "Global importance", drawn.importance, NOT_EXPLAINED),
        Part("embedding", "Embeddings", drawn.embedding, NO_VECTORS),
        Part("attention", "Gates and attention", drawn.attention, NO_ATTENTION),
    ]
