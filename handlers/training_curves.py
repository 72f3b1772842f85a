"""The training curves as an interactive page, updated during the run."""

from __future__ import annotations

from engine.reporting import LivePage


class TrainingCurves(LivePage):
    """Writes a page with a chart for each metric, training and validation together.

    It loads nothing from the network. An undefined value (NaN) leaves a gap in its curve; an epoch
    that was not measured does not.
    """

    name = "training_curves"
    file_name = "training_curves.html"
