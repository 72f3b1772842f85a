"""The training curves as an interactive page, updated during the run."""

from engine.reporting import LivePage


class TrainingCurves(LivePage):
    """Writes a page with a chart for each metric, training and validation together."""

    name = "training_curves"
    file_name = "training_curves.html"
