"""Models: plain modules from (spectra, mask, tabular) to a dict with ``logits``.

All are called with ``spectra`` [B, S, L]; ``mask``, bool [B, S], True for a real scan, at least one
a sample; ``tabular`` [B, D]; and those with an encoder of scans optionally with ``scan_rows``, the
mask as an index (:func:`models.spectra_encoder.encode_real_scans`). Padded scans may hold anything,
NaN too. ``num_classes`` is the width C of the logits: classes, labels, or values to regress.
``return_attention`` returns the weights of every head, which costs the fused kernel; it may be
switched on an existing model. ``scan_position`` is None (scans are a set) or ``'index'`` (their
order counts).
"""

import importlib
from typing import Any

# The short names that a configuration may use; a dotted import path works beside them.
MODELS = {
    "tft": "models.tft_models.TFTMultimodal",
    "attention": "models.attention_models.AttentionMultimodal",
    "late_fusion": "models.baseline_models.LateFusion",
    "pca_mlp": "models.pca_mlp.PCAMLP",
    "spectra_only": "models.baseline_models.SpectraOnly",
    "spectra_cnn": "models.baseline_models.SpectraCNN",
    "mean_linear": "models.baseline_models.MeanLinear",
    "tabular_only": "models.baseline_models.TabularOnly",
    "tabular_transformer": "models.tabular_encoder.FTTransformer",
}
FURTHER = (
    "models.attention_models.EnhancedAttentionMultimodal",
    "models.combination.Members",
    "models.combination.TrainingSet",
    "models.combination.Weighted",
    "models.combination.fit_before_training",
    "models.combination.is_fitted_before",
    "models.ensemble.ClassicalMember",
    "models.ensemble.Ensemble",
    "models.linear_path.LinearPath",
)


def __getattr__(name: str) -> Any:
    for path in (*MODELS.values(), *FURTHER):
        module, _, found = path.rpartition(".")
        if found == name:
            return getattr(importlib.import_module(module), name)
    raise AttributeError(f"module 'models' has no attribute '{name}'")
