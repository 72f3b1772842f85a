"""The named pages of a tested model: evaluation, importance, SHAP, PCA, attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.explain import Explained
from engine.reporting import figure_text, read_log
from experiments.analysis import Outcome
from experiments.report.figure_images import write_images_of
from experiments.report.figures import (
    ReportInput,
    Section,
    outcome_sections,
    sections_of,
    shap_sections,
    threshold_sections,
    training_curves,
    write_figure_page,
)


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

    def images(self, others: Mapping[Path, list[Section]] | None = None) -> str | None:
        """Write a PNG beside each page; None, or in one line why there are none."""
        return write_images_of({**(others or {}), **self.written})

    def _write(self, name: str, lead: str, sections: list[Section], done: str = "") -> None:
        nothing = Section("none", "Nothing to show", text=f"No sample {done}.")
        sections = sections or [nothing]
        path = self.folder / f"{name}.html"
        title = f"{self.title} - {name.replace('_', ' ')}"
        self.written[write_figure_page(path, title, lead, sections)] = sections


FOLDER, LOG = "report", "log.jsonl"
CURVES = "training_curves.html"


def write_named_figures(outcome: Outcome, examined: ReportInput) -> tuple[list[Path], str | None]:
    """Write a run's figures by name into ``report``, from what was found out already.

    Each as ``.html`` and, where kaleido and a Chrome are there, as ``.png``; of
    ``training_curves.html``, which grows with the run, only the image. ``shap_analysis`` shows the
    attributions that there are, and says by which method. Returns the files that were written, and
    in one line why there are no images, else None.
    """
    folder = outcome.run_dir / FOLDER
    folder.mkdir(exist_ok=True)
    pages = ResultPages(folder, outcome.run_dir.name, examined)
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
