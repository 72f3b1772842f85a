"""The pages of an evaluated model: how well it did, what it looks at, how it sees the samples."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from torch import Tensor, nn

from engine.attention_summary import summarise_attention
from engine.attribution import mean_importance
from engine.errors import UsageError
from engine.metrics import EpochOutputs
from experiments.facade.any_loader import AnyLoader
from experiments.pages.attention_figures import attention_sections
from experiments.pages.embedding_figures import pca_sections
from experiments.pages.figure_images import write_images
from experiments.pages.figure_page import Section, write_figure_page
from experiments.pages.importance_figures import importance_sections
from experiments.pages.outcome_figures import outcome_sections

# Means over so many samples hardly move any more, and an explanation takes many passes for each.
MOST_EXPLAINED, STEPS = 128, 32
KINDS = {"binary": "class", "multiclass": "class", "multilabel": "label", "regression": "target"}


@dataclass(frozen=True)
class Names:
    """What things are called on the pages; None where only their numbers are known.

    Attributes:
        classes: C classes, labels or targets.
        covariates: D covariates.
        axis: The place of each point of a scan, [L].
        axis_name: What the places are.
    """

    classes: Sequence[str] | None = None
    covariates: Sequence[str] | None = None
    axis: np.ndarray | None = None
    axis_name: str = "m/z"

    def check(self, outputs: int, batch: Any) -> None:
        """Refuse names that are not as many as what they name.

        Args:
            outputs: Of the model.
            batch: One of those that the pages are made of.

        Raises:
            UsageError: Says how many there are and how many are needed.
        """
        for name, values, needed in (
            ("class_names", self.classes, outputs),
            ("covariate_names", self.covariates, batch.tabular.shape[1]),
            ("axis", self.axis, batch.spectra.shape[2]),
        ):
            if values is not None and len(values) != needed:
                raise UsageError(f"{name}: {len(values)} given, but there are {needed}")

    def of_outputs(self, outputs: EpochOutputs) -> list[str]:
        """A name for each output."""
        if self.classes is not None:
            return [str(name) for name in self.classes]
        return [f"{KINDS[outputs.task]} {n}" for n in range(outputs.logits.shape[1])]


@dataclass
class ResultPages:
    """Writes pages of one model into a folder.

    Attributes:
        folder: It exists.
        title: The model's name.
        names: For classes, covariates and points.
        written: Pages so far, with their sections.
    """

    # Whichever comes first: where one of them stands, an evaluation was written already.
    FIRST: ClassVar[tuple[str, ...]] = ("evaluation_plots.html", "feature_importance.html")

    folder: Path
    title: str
    names: Names
    written: dict[Path, list[Section]] = field(default_factory=dict)

    def evaluation(self, outputs: EpochOutputs, metrics: Mapping[str, float]) -> None:
        """``evaluation_plots.html``: curves and counts, and all metrics."""
        table = [("metric", "value"), *((name, _number(v)) for name, v in metrics.items())]
        sections = [
            *outcome_sections(outputs, self.names.of_outputs(outputs)),
            Section("metrics", "Metrics", table=table),
        ]
        self._write("evaluation_plots", f"{len(outputs.sample_id)} test samples.", sections)

    def importance(self, model: nn.Module, loader: AnyLoader, outputs: EpochOutputs) -> None:
        """``feature_importance.html``: integrated gradients over points and covariates."""
        names = self.names.of_outputs(outputs)
        target, what = _explained(outputs.task, names)
        found = mean_importance(
            model,
            loader,
            target,
            device=next((p.device for p in model.parameters()), "cpu"),
            max_samples=MOST_EXPLAINED,
            steps=STEPS,
        )
        sections = importance_sections(
            found, what, self.names.axis, self.names.axis_name, self.names.covariates
        )
        lead = "What the scores rest on, by integrated gradients (Sundararajan et al. 2017)."
        self._write("feature_importance", lead, sections)

    def pca(self, vectors: Tensor, outputs: EpochOutputs, source: str) -> None:
        """``pca_analysis.html``: the samples in the plane of two principal components."""
        names = self.names.of_outputs(outputs)
        sections = pca_sections(vectors.numpy(), outputs, names, source)
        self._write("pca_analysis", "The test samples as the model sees them.", sections)

    def attention(self, model: nn.Module, loader: AnyLoader) -> None:
        """``attention_analysis.html``: the weights that the model returns."""
        device = next((p.device for p in model.parameters()), "cpu")
        summary = summarise_attention(model, loader, device, MOST_EXPLAINED)
        lead = "What the model attends to, over scans, covariates and positions."
        sections = attention_sections(summary, self.names.covariates)
        self._write("attention_analysis", lead, sections)

    def images(self) -> str | None:
        """Write a PNG beside each page; None, or in one line why there are none."""
        figures = {
            path.with_suffix(".png"): [s.figure for s in sections if s.figure is not None]
            for path, sections in self.written.items()
        }
        return write_images(figures)

    def _write(self, name: str, lead: str, sections: list[Section]) -> None:
        path = self.folder / f"{name}.html"
        title = f"{self.title} - {name.replace('_', ' ')}"
        self.written[write_figure_page(path, title, lead, sections)] = sections


def _explained(task: str, names: Sequence[str]) -> tuple[int | None, str]:
    """Which output's score is explained, and what it is in words."""
    if task == "binary":
        return 1, f"the logit of {names[1]}"
    if task == "regression":
        return 0, f"the prediction of {names[0]}"
    return None, f"the logit of each sample's likeliest {KINDS[task]}"


def _number(value: float) -> str:
    return "undefined" if math.isnan(value) else f"{value:.4f}"
