"""The model card, decisions and limitations as text."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.report.text.card import loading_code, model_card
    from experiments.report.text.markdown_text import (
        RELIABILITY_FIGURES,
        TEMPLATES,
        about_temperature,
        calibration_section,
        class_figures,
        class_table,
        decision_lines,
        escape_markdown,
        limits,
        threshold_section,
        warnings_of,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
