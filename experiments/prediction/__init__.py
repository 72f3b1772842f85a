"""Predictions of a trained model for new samples: load it, check the cohort, stream, write."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.prediction.analyses import Analyses, Asked
    from experiments.prediction.conformal import ConformalSets, calibrate_sets, fewest_groups
    from experiments.prediction.drift import Drift, DriftCheck, SpectraMeasures
    from experiments.prediction.external_validation import Validation, validate
    from experiments.prediction.fitted import NewCohort
    from experiments.prediction.held_out import (
        HeldOut,
        calibration_samples,
        carried_points,
        internal_samples,
        tested_samples,
        trained_samples,
    )
    from experiments.prediction.loaded_model import LoadedModel, load_model
    from experiments.prediction.prediction_file import predict_file, require_free
    from experiments.prediction.prediction_page import PredictionPage, write_prediction_page
    from experiments.prediction.predictions import Predictions
else:
    __getattr__ = lazy_exports(__name__, __file__)
