"""Attributions, attention, embeddings and gates of a trained model."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.explain.attribution import attribute
    from engine.explain.attribution_directions import Direction, find_direction, toward_second
    from engine.explain.attribution_file import read_explained, write_explained
    from engine.explain.attribution_options import (
        METHODS,
        MOST_STEPS,
        ROWS,
        SCORES,
        STEPS,
        WINDOW,
        Options,
    )
    from engine.explain.attribution_regions import (
        WIDTH,
        Window,
        sample_points,
        top_windows,
        window_edges,
    )
    from engine.explain.attribution_results import Explained, Importance, importance_of
    from engine.explain.attribution_samples import OutputsExplainer, explain, explain_outputs
    from engine.explain.auxiliary_heads import AuxiliaryHeads
    from engine.explain.embeddings import Embeddings
    from engine.explain.gates import Gates
    from engine.explain.output_collector import OutputCollector
    from engine.explain.scan_attention import ScanAttention
else:
    __getattr__ = lazy_exports(__name__, __file__)
