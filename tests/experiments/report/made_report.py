"""Contents of a run's page, of every task, with names that try to be more than names."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import plotly.graph_objects as go
import torch

from datasets.audit import Finding
from datasets.messages import Message
from engine.explain import Explained
from engine.metrics import CLASSES, EpochOutputs
from engine.statistics import Interval
from experiments.analysis import TestAnalysis, decide
from experiments.config import ThresholdConfig
from experiments.report.figures import Part, Section
from experiments.report.report_content import ReportContent, SampleSource
from tests.experiments.report.made_outputs import NAMES, make_outputs

NASTY = (
    "<script>window.hacked = 1</script>",
    "\"quoted\" & 'single' <b>bold</b> &amp; %{x}",
    "肝细胞癌",
    "<img src=x onerror='window.hacked = 2'>" + "x" * 261,
)
COVARIATES = ("age", "CRP", NASTY[0], NASTY[3])
POINTS, MOST_SCANS = 96, 4


def nasty_names(task: str) -> list[str]:
    """As many as the task's outputs are."""
    return list(NASTY[: len(NAMES[task])])


def make_content(
    task: str = "binary",
    size: int = 30,
    points: int = POINTS,
    scans: int = MOST_SCANS,
    names: Sequence[str] | None = None,
    **changes: Any,
) -> Any:
    """A finished run's content; Any, because it has all parts that a content may have.

    Args:
        task: A key of ``NAMES``.
        size: Samples on the test side.
        points: Of a scan.
        scans: The most that a sample has.
        names: Of the outputs.
        **changes: Fields of the content.
    """
    classes = list(names or NAMES[task])
    test = make_outputs(task, size)
    val = replace(test, sample_id=[f"val-{name}" for name in test.sample_id])
    decisions, calibration = decide({"val": val, "test": test}, classes, ThresholdConfig())
    source = make_source(test, points, scans)
    findings = TestAnalysis(
        decisions=decisions,
        calibration=calibration,
        explained=make_sets(test, source),
        scan_weights=[
            torch.full((len(source.scan_rows[name]),), 1 / len(source.scan_rows[name]))
            for name in test.sample_id
        ],
    )
    epochs = [
        {"epoch": n, "metrics": {"train/loss": 1 / n, "val/loss": 1.1 / n, "lr": 0.01 / n}}
        for n in range(1, 6)
    ]
    content = ReportContent(
        title="a run",
        status="finished",
        epoch=5,
        max_epochs=10,
        task=task,
        class_names=classes,
        model=Message(
            "Model {} with {} parameters; the best checkpoint by {}.",
            *("tft", "12,345", "val/auroc"),
        ),
        task_text=Message("Regression targets: {}.", ", ".join(classes)),
        cohort=[
            Message(
                "Cohort {}: {} samples, {} scans ({} to {} a sample) of {} points ({} to {})",
                *("small", 90, 180, 1, 3, 96, 2000, 9000),
            )
        ],
        split=[
            (side, size, size, 2 * size, ["3"] * len(classes))
            for side in ("training", "validation", "test")
        ],
        audit=[
            Finding(
                "missingness:CRP",
                "warn",
                0.8,
                Message(
                    "missingness of {} predicts {}: missing in {} of {} and {} of {}",
                    *("CRP", Message("the label"), "3%", classes[0], "63%", classes[-1]),
                ),
                (0.7, 0.9),
            ),
            Finding(
                "counts:test",
                "note",
                1,
                Message("fewer than {} samples in the test split: {}", 50, [f"{classes[0]} 15"]),
            ),
        ],
        headline={"auroc": 0.93, "mae": math.nan},
        tested={"auroc": Interval(0.91, 0.85, 0.97), "mae": Interval(3.2)},
        warnings=[
            Message(
                "{}.",
                Message("fewer than {} samples in the test set: {}", 50, [f"{classes[0]} 15"]),
            )
        ],
        limits=["Subgroups (by sex, age or site) were not evaluated separately."],
        epochs=epochs,
        val=val,
        test=test,
        groups={name: f"group of {name}" for name in test.sample_id},
        findings=findings,
        samples=source,
        parts=[
            Part("importance", "Global importance", [make_section()]),
            Part("embedding", "Embeddings", absent="Embeddings were not stored."),
        ],
        settings="exp_name: a run\n",
        environment={"commit": None, "dirty": False, "packages": {"torch": "2"}, "threads": 2},
        names=[*COVARIATES, "small"],
    )
    return replace(content, **changes)


def make_source(outputs: EpochOutputs, points: int, most_scans: int) -> SampleSource:
    """Scans with a peak whose place and height differ from scan to scan."""
    rng = np.random.default_rng(0)
    axis = np.linspace(2000, 9000, points)
    counts = 1 + np.arange(len(outputs.sample_id)) % most_scans
    ends = np.cumsum(counts)
    spectra = rng.gamma(2, 10, size=(int(ends[-1]), points)).astype(np.float32)
    spectra[np.arange(len(spectra)), np.arange(len(spectra)) % points] = 5000
    values = [
        ["" if number % 7 == 3 else f"{number % 60 + 20} years", "12.5 mg/L", "male", NASTY[3]]
        for number in range(len(counts))
    ]
    return SampleSource(
        spectra=spectra,
        scan_rows={
            name: np.arange(end - count, end)
            for name, count, end in zip(outputs.sample_id, counts, ends, strict=True)
        },
        axis=axis,
        covariates=COVARIATES,
        values=dict(zip(outputs.sample_id, values, strict=True)),
        feature_of=[0, 0, 1, 2, 3],
    )


def make_sets(outputs: EpochOutputs, source: SampleSource) -> list[Explained]:
    """Attributions of the second of two classes, else of each label or value by itself."""
    explained = make_explained(outputs, source)
    if outputs.task in CLASSES:
        return [explained]
    return [
        replace(
            explained,
            target=torch.full_like(explained.target, output),
            scans=[2.0**output * own for own in explained.scans],
            outputs=outputs.logits.shape[1],
        )
        for output in range(outputs.logits.shape[1])
    ]


def make_explained(outputs: EpochOutputs, source: SampleSource) -> Explained:
    """Attributions of the first output that add up."""
    torch.manual_seed(1)
    target = torch.ones(len(outputs.sample_id), dtype=torch.long)
    scans = [
        torch.randn(len(source.scan_rows[name]), len(source.axis)) for name in outputs.sample_id
    ]
    tabular = torch.randn(len(target), len(source.feature_of))
    change = torch.stack([part.sum() for part in scans]) + tabular.sum(dim=1)
    zero = torch.zeros(len(target))
    return Explained(
        "integrated_gradients", list(outputs.sample_id), target, scans, tabular, change, zero
    )


def make_section(name: str = "points") -> Section:
    """A figure, a text and a table, as other rooms hand them over."""
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name="training"))
    figure.update_xaxes(title_text="epoch")
    return Section(name, "Covariates", figure, table=[("feature", "share"), ("age", "12%")])
