"""Models: plain modules from (spectra, mask, tabular) to a dict with ``logits``."""

from models.baseline_models import SpectraOnly, TabularOnly
from models.tft_models import TFTMultimodal

# The short names that a configuration may use; a dotted import path works beside them.
MODELS = {
    "tft": TFTMultimodal,
    "spectra_only": SpectraOnly,
    "tabular_only": TabularOnly,
}

__all__ = ["MODELS", "SpectraOnly", "TFTMultimodal", "TabularOnly"]
