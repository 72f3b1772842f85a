"""The files of a comparison of models: a table, a page of figures, a page of overlaid curves.

Beside each page stands its image, where images can be made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.metrics import EpochOutputs
from experiments.comparison.comparison_figures import (
    areas,
    overlaid_predictions,
    precision_recall_curves,
    roc_curves,
)
from experiments.report import write_images_of
from experiments.report.figures import Section, write_figure_page

TABLE_NAME, PAGE_NAME = "model_comparison.csv", "model_comparison.html"
CURVES_NAME = "roc_comparison.html"


def write_comparison_files(
    folder: Path,
    table: pd.DataFrame,
    about: str,
    sections: Sequence[Section],
    outputs: Mapping[str, EpochOutputs],
    names: Sequence[str],
) -> tuple[list[Path], str | None]:
    """Write ``model_comparison.csv``, ``model_comparison.html`` and ``roc_comparison.html``.

    Beside each page its figures go into a ``.png``, where kaleido and a Chrome are there.

    Args:
        folder: It exists.
        table: A row a model.
        about: What is compared, in a line.
        sections: Of the page.
        outputs: Model -> its outputs, all of the same samples.
        names: Of the classes, the labels or the targets.

    Returns:
        The table and the pages (a regression has no curves, its predictions are a section of the
        page); and in one line why there are no images, else None.

    Raises:
        UsageError: They cannot be written.
    """
    try:
        write_whole(table.to_csv(index=False).encode(), folder, TABLE_NAME)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error
    ranked = next(iter(outputs.values())).task != "regression"
    if not ranked:
        figure = overlaid_predictions(outputs, names)
        sections = [*sections, Section("predictions", "Predicted against true", figure)]
    page = write_figure_page(folder / PAGE_NAME, "Model comparison", about, sections)
    pages = {page: sections}
    if ranked:
        curves = [
            Section("roc", "ROC", roc_curves(outputs, names)),
            Section("pr", "Precision and recall", precision_recall_curves(outputs, names)),
            Section("areas", "Areas under the curves", table=areas(outputs, names)),
        ]
        path = folder / CURVES_NAME
        pages[write_figure_page(path, "ROC comparison", about, curves)] = curves
    return [folder / TABLE_NAME, *pages], write_images_of(pages)
