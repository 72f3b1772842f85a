"""Tested samples of each task with attributions of a known linear model."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engine.explain import Explained
from experiments.analysis import TestAnalysis
from experiments.report.figures import ExplainedInputs, ReportInput
from tests.experiments.report.made_outputs import NAMES, SAMPLES, make_outputs

POINTS = 60
COVARIATES = ["age", "sex=m", "<b>CRP</b>"]
# A higher intensity at the first speaks for the target, at the second against it.
PEAKS = {10: 3.0, 40: -2.0}
WEIGHTS = (0.5, -1.5, 0.0)


def make_examined(
    task: str = "binary", method: str = "integrated_gradients", **changes: Any
) -> Any:
    """Samples of one to three scans; what is not a peak's weight is zero.

    Of classes the predicted one is explained; labels and values each by itself, each twice as
    strongly as the one before.
    """
    outputs = make_outputs(task)
    torch.manual_seed(1)
    weight = torch.zeros(POINTS)
    for place, strength in PEAKS.items():
        weight[place] = strength
    scans = [torch.randn(1 + i % 3, POINTS) for i in range(SAMPLES)]
    tabular = torch.randn(SAMPLES, len(COVARIATES))
    target = torch.zeros(SAMPLES).long()
    if task in ("binary", "multiclass"):
        target = outputs.predictions.long()
    # What speaks for the second of two classes speaks against the first.
    sense = torch.where(target == 0, -1.0, 1.0) if task == "binary" else torch.ones(SAMPLES)
    points = [s * own / len(own) * weight for s, own in zip(sense, scans, strict=True)]
    covariates = sense[:, None] * tabular * torch.tensor(WEIGHTS)
    explained = Explained(
        method=method,
        sample_id=outputs.sample_id,
        target=target,
        scans=points,
        tabular=covariates,
        change=torch.stack([own.sum() for own in points]) + covariates.sum(dim=1),
        gap=None,
        score="log_odds" if task in ("binary", "multiclass") else "logit",
        outputs=len(NAMES[task]),
    )
    sets = [explained]
    if task in ("multilabel", "regression"):
        sets = [_of_output(explained, output) for output in range(len(NAMES[task]))]
    means = np.stack([own.mean(dim=0).numpy() for own in scans])
    inputs = ExplainedInputs(means, tabular.numpy(), 100 + means.mean(axis=0), "mean raw intensity")
    settings = {
        "findings": TestAnalysis(explained=sets),
        "covariates": COVARIATES,
        "axis": np.linspace(2000, 2590, POINTS),
        "axis_name": "m/z",
        "inputs": inputs,
        **changes,
    }
    return ReportInput(outputs=outputs, classes=NAMES[task], **settings)


def _of_output(explained: Explained, output: int) -> Explained:
    assert explained.change is not None
    factor = 2.0**output
    return replace(
        explained,
        target=torch.full_like(explained.target, output),
        scans=[factor * own for own in explained.scans],
        tabular=factor * explained.tabular,
        change=factor * explained.change,
    )
