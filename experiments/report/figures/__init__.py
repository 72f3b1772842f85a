"""The figures and sections of a report."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.report.figures.attention import MOST_CELLS, weight_sections
    from experiments.report.figures.common import (
        PALETTE,
        about_unranked,
        add_chance,
        ranked_scores,
        say_undefined,
        training_curves,
    )
    from experiments.report.figures.embeddings import plane_sections
    from experiments.report.figures.figure_page import (
        TEMPLATES,
        Section,
        choices_of,
        styled,
        write_figure_page,
    )
    from experiments.report.figures.gates import MEANINGS, agreement_section, gate_sections
    from experiments.report.figures.outcomes import outcome_sections
    from experiments.report.figures.reliability import reliability_section
    from experiments.report.figures.report_input import (
        ExplainedInputs,
        ReportInput,
        examine,
        names_of_kinds,
    )
    from experiments.report.figures.sections import (
        METHODS,
        FindingSections,
        importance_sections,
        shap_sections,
    )
    from experiments.report.figures.shap import MOST_POINTS, summary_sections
    from experiments.report.figures.text import shown_name, shown_names
    from experiments.report.figures.thresholds import threshold_sections
else:
    __getattr__ = lazy_exports(__name__, __file__)
