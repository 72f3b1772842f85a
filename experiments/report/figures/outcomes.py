"""The figures that show how well a model did, for each task."""

from __future__ import annotations

from collections.abc import Sequence

from engine.metrics import EpochOutputs
from experiments.report.figures import common as figures
from experiments.report.figures import regression as regression_figures
from experiments.report.figures.figure_page import Section


def outcome_sections(outputs: EpochOutputs, names: Sequence[str], of: str = "") -> list[Section]:
    """Sections on how predictions and truth agree.

    Args:
        outputs: Their task says which figures there are.
        names: Of the classes, the labels or the regression's targets.
        of: Put before each heading (``Test: ``).
    """

    def heading(text: str) -> str:
        return f"{of}{text}" if of else text.capitalize()

    if outputs.task == "regression":
        return [
            Section(
                "predictions",
                heading("predicted against true"),
                regression_figures.predicted_against_true(outputs, names),
            ),
            Section(
                "residuals",
                heading("residuals"),
                regression_figures.residuals(outputs, names),
            ),
        ]
    what = "each label" if outputs.task == "multilabel" else "confusion matrix"
    return [
        Section(
            "ranking",
            heading("ranking"),
            figures.ranking_curves(outputs, names),
            figures.about_unranked(outputs, names),
        ),
        Section("confusion", heading(what), figures.confusion(outputs, names)),
        Section(
            "scores", heading("predicted probabilities"), figures.score_histogram(outputs, names)
        ),
    ]
