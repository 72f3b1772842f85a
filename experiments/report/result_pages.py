"""The named pages of a tested model: how well it did, what it looks at, how it sees the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from engine.explain import Explained
from engine.reporting import figure_text
from experiments.report.figure_images import write_images_of
from experiments.report.figures import (
    FindingSections,
    ReportInput,
    Section,
    outcome_sections,
    shap_sections,
    threshold_sections,
    write_figure_page,
)


@dataclass
class ResultPages:
    """Writes pages of one tested model into a folder.

    Attributes:
        folder: It exists.
        title: The model's or the run's name.
        drawn: What the pages are made of.
        written: Pages so far, with their sections.
    """

    folder: Path
    title: str
    drawn: FindingSections
    written: dict[Path, list[Section]] = field(default_factory=dict)

    @property
    def examined(self) -> ReportInput:
        """The samples that the pages are of."""
        return self.drawn.examined

    def evaluation(self, metrics: Mapping[str, float]) -> None:
        """``evaluation_plots.html``: how well the model did, and what is behind it, on one page.

        ROC and precision-recall curves, confusion matrix, probabilities and threshold sensitivity
        (of a regression predictions and residuals), t-SNE and attention, all metrics.
        """
        outputs, classes = self.examined.outputs, self.examined.classes
        table = [("metric", "value"), *((name, figure_text(v)) for name, v in metrics.items())]
        sections = [
            *outcome_sections(outputs, classes),
            *threshold_sections(outputs, classes),
            *(section for section in self.drawn.embedding if section.name == "tsne"),
            *self.drawn.attention,
            Section("metrics", "Metrics", table=table),
        ]
        self._write("evaluation_plots", f"{len(outputs.sample_id)} test samples.", sections)

    def importance(self) -> None:
        """``feature_importance.html``: what the scores rest on, over points and covariates."""
        lead = "Attribution over the spectrum and the covariates."
        self._write_of("feature_importance", lead, self.drawn.importance, "was explained")

    def shap(self, explained: Sequence[Explained] = ()) -> None:
        """``shap_analysis.html``: the attributions of each sample's features.

        Args:
            explained: By another method than those of the importance, and of the same samples;
                where there are none, those are taken.
        """
        examined = self.examined
        if explained:
            examined = replace(examined, findings=replace(examined.findings, explained=explained))
        lead = "Contribution of each feature to the score, per sample."
        self._write_of("shap_analysis", lead, shap_sections(examined), "was explained")

    def pca(self) -> None:
        """``pca_analysis.html``: the samples in the plane, by PCA and by t-SNE."""
        lead = "Embeddings of the test samples."
        self._write_of("pca_analysis", lead, self.drawn.embedding, "has a stored embedding")

    def attention(self) -> None:
        """``attention_analysis.html``: the weights and gates that the model returns."""
        lead = "Attention over scans, covariates and positions."
        self._write_of("attention_analysis", lead, self.drawn.attention, "has measured attention")

    def images(self, others: Mapping[Path, list[Section]] | None = None) -> str | None:
        """Write a PNG beside each page; None, or in one line why there are none.

        Args:
            others: Pages that are there already, with their sections.
        """
        return write_images_of({**(others or {}), **self.written})

    def _write_of(self, name: str, lead: str, sections: list[Section], done: str) -> None:
        nothing = Section("none", "Nothing to show", text=f"No sample {done}.")
        self._write(name, lead, sections or [nothing])

    def _write(self, name: str, lead: str, sections: list[Section]) -> None:
        path = self.folder / f"{name}.html"
        title = f"{self.title} - {name.replace('_', ' ')}"
        self.written[write_figure_page(path, title, lead, sections)] = sections
