"""The named pages of a tested model (evaluation, importance, SHAP, PCA, attention), and images."""

import importlib.util
import io
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import plotly.graph_objects as go

from datasets.files import write_whole
from engine.explain import Explained
from engine.reporting import figure_text, read_log
from experiments.analysis import Outcome
from experiments.report.figures import (
    ReportInput,
    Section,
    outcome_sections,
    sections_of,
    shap_sections,
    shown_name,
    threshold_sections,
    training_curves,
    write_figure_page,
)
from experiments.run_files import RunFile


@dataclass
class ResultPages:
    """Writes pages of one tested model into a folder, and keeps their sections in ``written``."""

    folder: Path
    title: str
    examined: ReportInput
    written: dict[Path, list[Section]] = field(default_factory=dict)

    def evaluation(self, metrics: Mapping[str, float]) -> None:
        """``evaluation_plots.html``: curves, decisions, t-SNE, attention and all metrics."""
        outputs, classes = self.examined.outputs, self.examined.classes
        table = [("metric", "value"), *((name, figure_text(v)) for name, v in metrics.items())]
        planes = sections_of(self.examined, "embedding")
        sections = [
            *outcome_sections(outputs, classes),
            *threshold_sections(outputs, classes),
            *(section for section in planes if section.name == "tsne"),
            *sections_of(self.examined, "attention"),
            Section("metrics", "Metrics", table=table),
        ]
        self._write("evaluation_plots", f"{len(outputs.sample_id)} test samples.", sections)

    def importance(self) -> None:
        """``feature_importance.html``: what the scores rest on, over points and covariates."""
        lead = "Attribution over the spectrum and the covariates."
        sections = sections_of(self.examined, "importance")
        self._write("feature_importance", lead, sections, "was explained")

    def shap(self, explained: Sequence[Explained] = ()) -> None:
        """``shap_analysis.html``: the attributions of each sample's features.

        ``explained`` are of the importance's samples by another method, else its own are taken.
        """
        examined = self.examined
        if explained:
            examined = replace(examined, findings=replace(examined.findings, explained=explained))
        lead = "Contribution of each feature to the score, per sample."
        self._write("shap_analysis", lead, shap_sections(examined), "was explained")

    def pca(self) -> None:
        """``pca_analysis.html``: the samples in the plane, by PCA and by t-SNE."""
        sections, nothing = sections_of(self.examined, "embedding"), "has a stored embedding"
        self._write("pca_analysis", "Embeddings of the test samples.", sections, nothing)

    def attention(self) -> None:
        """``attention_analysis.html``: the weights and gates that the model returns."""
        lead = "Attention over scans, covariates and positions."
        sections, nothing = sections_of(self.examined, "attention"), "has measured attention"
        self._write("attention_analysis", lead, sections, nothing)

    def _write(self, name: str, lead: str, sections: list[Section], done: str = "") -> None:
        nothing = Section("none", "Nothing to show", text=f"No sample {done}.")
        sections = sections or [nothing]
        path = self.folder / f"{name}.html"
        title = f"{self.title} - {name.replace('_', ' ')}"
        self.written[write_figure_page(path, title, lead, sections)] = sections


FOLDER = "report"
CURVES = "training_curves.html"


def write_named_figures(outcome: Outcome, examined: ReportInput) -> str | None:
    """Write a run's figures by name into ``report``, from what was found out already.

    Each as ``.html`` and, where kaleido and a Chrome are there, as ``.png``; of
    ``training_curves.html``, which grows with the run, only the image. ``shap_analysis`` shows the
    attributions that there are, and says by which method. Returns None, or in one line why there
    are no images.
    """
    folder = outcome.run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    pages = ResultPages(folder, outcome.run_dir.name, examined)
    pages.evaluation(outcome.results["test"])
    pages.importance()
    pages.shap()
    pages.pca()
    pages.attention()
    epochs = [row for row in read_log(outcome.run_dir / RunFile.LOG) if row["event"] == "epoch"]
    curves = {folder / CURVES: [Section("training", "Training", training_curves(epochs))]}
    return write_images_of(curves | pages.written)


WIDTH, SCALE = 1200, 2
# In pixels: a figure that names no height, what is left free around each, and how far below the
# axis the legend begins.
HEIGHT, LEGEND_BELOW = 400, 55
MARGIN = {"l": 80, "r": 60, "t": 70, "b": 70}
# In pixels: an axis may stand above the figure.
NAME_ABOVE = 36


def write_images_of(pages: Mapping[Path, Sequence[Section]]) -> str | None:
    """Write the figures of each page as an image beside it; as :func:`write_images` does."""
    wanted: dict[Path, list[go.Figure]] = {}
    for path, sections in pages.items():
        drawn = (section for section in sections if section.figure is not None)
        wanted[path.with_suffix(".png")] = [_named(section) for section in drawn]
    return write_images(wanted)


def _named(section: Section) -> go.Figure:
    """Its figure; with what it is of above it where that is chosen on the page."""
    figure = go.Figure(section.figure)
    if section.choice:
        across = {"xref": "paper", "x": 1, "xanchor": "right"}
        up = {"yref": "paper", "y": 1, "yanchor": "bottom", "yshift": NAME_ABOVE}
        name = f"<b>{shown_name(section.choice)}</b>"
        figure.add_annotation(text=name, showarrow=False, **across, **up)
    return figure


def write_images(wanted: Mapping[Path, Sequence[go.Figure]]) -> str | None:
    """Write figures as images, one file's below each other; None, or in one line why not."""
    if importlib.util.find_spec("kaleido") is None:
        return "no PNG files beside the pages: they need kaleido (pip install 'scanfire[png]')"
    with tempfile.TemporaryDirectory() as scratch:
        drafts: dict[Path, list[Path]] = {}
        orders: list[dict[str, Any]] = []
        for path, figures in wanted.items():
            for figure in map(_framed, figures):
                draft = Path(scratch) / f"{len(orders)}.png"
                drafts.setdefault(path, []).append(draft)
                size = {"width": WIDTH, "height": figure.layout.height, "scale": SCALE}
                orders.append({"fig": figure.to_plotly_json(), "path": draft, "opts": size})
        try:
            import kaleido  # what it needs may be missing

            # One browser for all; by default it would fetch MathJax from the network.
            kaleido.write_fig_from_object_sync(
                orders, kopts={"mathjax": False}, cancel_on_error=True
            )
            for path, own in drafts.items():
                write_whole(_stacked(own), path.parent, path.name, durable=False)
        except Exception as error:  # the browser is another's program, and fails in its own ways
            reason = " ".join(str(error).split()) or type(error).__name__
            return f"no PNG files beside the pages: {reason}"
    return None


def _framed(figure: go.Figure) -> go.Figure:
    """A copy for paper: with its legend below it, and without the menus that nobody can open."""
    height = figure.layout.height or HEIGHT
    framed = go.Figure(figure)
    framed.update_layout(
        template="none",
        paper_bgcolor="white",
        plot_bgcolor="white",
        height=height + MARGIN["t"] + MARGIN["b"],
        margin=MARGIN,
        bargap=0.05,
    )
    framed.layout.updatemenus = ()
    legend = {"orientation": "h", "y": -LEGEND_BELOW / height, "yanchor": "top", "x": 0}
    return framed.update_layout(legend=legend, overwrite=False)


def _stacked(images: Sequence[Path]) -> bytes:
    """PNG files of equal width below each other, as one."""
    from PIL import Image  # comes with kaleido's extra

    file = io.BytesIO()
    parts = [np.asarray(Image.open(path).convert("RGB")) for path in images]
    Image.fromarray(np.concatenate(parts)).save(file, "PNG")
    return file.getvalue()
