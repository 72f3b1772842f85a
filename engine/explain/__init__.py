"""Attributions of a trained model, and collectors of its outputs."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from engine.explain.attribution import OutputsExplainer, attribute, explain, explain_outputs
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
        Direction,
        Window,
        find_direction,
        sample_points,
        top_windows,
        toward_second,
        window_edges,
    )
    from engine.explain.attribution_results import (
        Explained,
        Importance,
        importance_of,
        read_explained,
        write_explained,
    )
    from engine.explain.collectors import (
        AuxiliaryHeads,
        Embeddings,
        Gates,
        MemberLogits,
        ScanAttention,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
