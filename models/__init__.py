"""Models: plain modules from (spectra, mask, tabular) to a dict with ``logits``."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from models.attention_models import AttentionMultimodal
    from models.baseline_models import LateFusion, MeanLinear, SpectraOnly, TabularOnly
    from models.enhanced_attention import EnhancedAttentionMultimodal
    from models.spectra_cnn import SpectraCNN
    from models.tabular_encoder import FTTransformer
    from models.tft_models import TFTMultimodal

# The short names that a configuration may use; a dotted import path works beside them.
MODELS = {
    "tft": "models.tft_models.TFTMultimodal",
    "attention": "models.attention_models.AttentionMultimodal",
    "late_fusion": "models.baseline_models.LateFusion",
    "spectra_only": "models.baseline_models.SpectraOnly",
    "spectra_cnn": "models.spectra_cnn.SpectraCNN",
    "mean_linear": "models.baseline_models.MeanLinear",
    "tabular_only": "models.baseline_models.TabularOnly",
    "tabular_transformer": "models.tabular_encoder.FTTransformer",
}
UNNAMED = ("models.enhanced_attention.EnhancedAttentionMultimodal",)

if not TYPE_CHECKING:

    def __getattr__(name: str) -> Any:
        for path in (*MODELS.values(), *UNNAMED):
            module, _, found = path.rpartition(".")
            if found == name:
                return getattr(importlib.import_module(module), name)
        raise AttributeError(f"module 'models' has no attribute '{name}'")
