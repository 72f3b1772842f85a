"""Models: plain modules from (spectra, mask, tabular) to a dict with ``logits``."""

from models.attention_models import AttentionMultimodal
from models.baseline_models import LateFusion, SpectraOnly, TabularOnly
from models.enhanced_attention import EnhancedAttentionMultimodal
from models.ft_transformer import FTTransformer
from models.mean_linear import MeanLinear
from models.spectra_cnn import SpectraCNN
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
