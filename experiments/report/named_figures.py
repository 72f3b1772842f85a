"""The named figures of a run, each a page of its own beside the report."""

from __future__ import annotations

from pathlib import Path

from engine.reporting import read_log
from experiments.analysis import Outcome
from experiments.report.figures import FindingSections, Section, training_curves
from experiments.report.result_pages import ResultPages

FOLDER, LOG = "report", "log.jsonl"
CURVES = "training_curves.html"


def write_named_figures(outcome: Outcome, drawn: FindingSections) -> tuple[list[Path], str | None]:
    """Write a run's figures by name into ``report``, from what was found out already.

    ``evaluation_plots``, ``feature_importance``, ``shap_analysis``, ``pca_analysis`` and
    ``attention_analysis``, each as ``.html`` and, where kaleido and a Chrome are there, as
    ``.png``; of ``training_curves.html``, which grows with the run, only the image is made.

    The model is not called again. So ``shap_analysis`` shows the attributions that there are, by
    whichever method: by ``gradient_shap`` they are SHAP values, by integrated gradients they are
    not called so, and the page says what they are.

    Args:
        outcome: Of a tested run, with its findings.
        drawn: Its sections, which the report may have drawn already.

    Returns:
        The files that were written, and in one line why there are no images, else None.

    Raises:
        UsageError: A page cannot be written.
    """
    folder = outcome.run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    pages = ResultPages(folder, outcome.run_dir.name, drawn)
    pages.evaluation(outcome.results["test"])
    pages.importance()
    pages.shap()
    pages.pca()
    pages.attention()
    epochs = [row for row in read_log(outcome.run_dir / LOG) if row["event"] == "epoch"]
    curves = {folder / CURVES: [Section("training", "Training", training_curves(epochs))]}
    note = pages.images(curves)
    paths = list(pages.written)
    if note is None:
        paths += [page.with_suffix(".png") for page in (*curves, *pages.written)]
    return paths, note
