"""Models: plain modules from (spectra, mask, tabular) to a dict with ``logits``."""

from models.attention_models import AttentionMultimodal, EnhancedAttentionMultimodal
from models.baseline_models import (
    FTTransformer,
    LateFusion,
    MeanLinear,
    SpectraCNN,
    SpectraOnly,
    TabularOnly,
)
from models.tft_models import TFTMultimodal

# The short names that a configuration may use; a dotted import path works beside them.
MODELS = {
    "tft": TFTMultimodal,
    "attention": AttentionMultimodal,
    "late_fusion": LateFusion,
    "spectra_only": SpectraOnly,
    "spectra_cnn": SpectraCNN,
    "mean_linear": MeanLinear,
    "tabular_only": TabularOnly,
    "tabular_transformer": FTTransformer,
}

__all__ = [
    "MODELS",
    "AttentionMultimodal",
    "EnhancedAttentionMultimodal",
    "FTTransformer",
    "LateFusion",
    "MeanLinear",
    "SpectraCNN",
    "SpectraOnly",
    "TFTMultimodal",
    "TabularOnly",
]
