"""The model card, decisions and limitations as text."""

from typing import TYPE_CHECKING

from datasets.lazy_exports import lazy_exports

if TYPE_CHECKING:
    from experiments.report.text.card import loading_text, model_card, summary
    from experiments.report.text.markdown_text import (
        RELIABILITY_FIGURES,
        about_temperature,
        class_figures,
        decision_lines,
        escape_markdown,
        limits,
        warnings_of,
    )
else:
    __getattr__ = lazy_exports(__name__, __file__)
