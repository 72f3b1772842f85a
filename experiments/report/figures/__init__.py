"""The figures and sections of a report."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.report.figures.embeddings import plane_sections
    from experiments.report.figures.figure_page import (
        GUIDE,
        LONGEST_ID,
        PALETTE,
        TEMPLATES,
        Part,
        Section,
        add_diagonal,
        add_menu,
        choices_of,
        shown_name,
        shown_names,
        styled,
        write_figure_page,
    )
    from experiments.report.figures.importance import in_one_sense
    from experiments.report.figures.outcomes import (
        about_unranked,
        outcome_sections,
        reliability_section,
        say_undefined,
        threshold_sections,
        training_curves,
    )
    from experiments.report.figures.report_input import ExplainedInputs, ReportInput, examine
    from experiments.report.figures.sections import importance_sections, sections_of, shap_sections
else:
    __getattr__ = lazy_exports(__name__, __file__)
