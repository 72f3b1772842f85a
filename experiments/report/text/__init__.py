"""The model card, decisions and limitations as text."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.report.text.card import model_card
    from experiments.report.text.decision_text import (
        RELIABILITY_FIGURES,
        about_temperature,
        calibration_section,
        decision_lines,
        threshold_section,
    )
    from experiments.report.text.limit_text import limits, warnings_of
    from experiments.report.text.markdown_text import class_figures, class_table, escape_markdown
else:
    __getattr__ = lazy_exports(__name__, __file__)
