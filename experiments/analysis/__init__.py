"""The analysis of a test set: intervals, decisions, attributions, attention."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.analysis.cohort_audit import (
        AUTOMATIC_SCANS,
        audit_cohort,
        audit_summary,
        audit_table,
        check_audit,
        finding_number,
        read_audit,
        write_audit,
    )
    from experiments.analysis.outcome import (
        Outcome,
        TestAnalysis,
        about_members,
        about_methods,
        about_positive_class,
        about_refitted,
        about_too_few,
        about_trees,
        about_unexplained,
        as_plain,
        ranked_outputs,
        ranked_scores,
        too_few_of,
    )
    from experiments.analysis.reference import Difference, Reference, Share
    from experiments.analysis.spectral_summary import DISTANCE, RESIDUAL, SpectralSummary
    from experiments.analysis.test_set import AnalysisCollector, TestSetAnalysis, decide
    from experiments.analysis.training_summary import (
        TrainingSummary,
        category_values,
        number_values,
        predicted_values,
        summarise,
        summarise_training,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
