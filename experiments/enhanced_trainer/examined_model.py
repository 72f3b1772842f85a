"""A model at hand, looked at so that pages can be made of it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from torch import nn

from engine.explain import Explained, OutputsExplainer
from engine.metrics import EpochOutputs, summarise_attention
from experiments.analysis import AnalysisCollector
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.names import Names
from experiments.report.figures import ExplainedInputs, ReportInput

# Means over so many samples hardly move any more, and an explanation takes many passes for each.
MOST_EXPLAINED = 128
METHOD, SHAP_METHOD = "integrated_gradients", "gradient_shap"
INTENSITY = "mean intensity"


def look_at_model(
    model: nn.Module,
    loader: AnyLoader,
    outputs: EpochOutputs,
    kept: AnalysisCollector,
    names: Names,
    explain: bool = True,
) -> tuple[ReportInput, list[Explained]]:
    """Average what the model attends to, and explain the first samples.

    Args:
        model: Where it is to compute.
        loader: Of the samples that were measured; its scaler tells the unit of a regression.
        outputs: Of all of them.
        kept: During the same evaluation.
        names: Of classes, covariates and points.
        explain: Whether attributions are wanted, which take many passes a sample.

    Returns:
        What pages are made of, with attributions by integrated gradients; and SHAP values of the
        same samples. Of several labels or values each is explained by itself. None where
        explanations are not wanted.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    explained: list[Explained] = []
    shap: list[Explained] = []
    inputs = None
    if explain:
        explained, shap, inputs = _explain(model, loader, outputs.task, device)
    attention = summarise_attention(model, loader, device, MOST_EXPLAINED)
    findings, scaler = kept.findings(explained=explained, attention=attention), loader.scaler
    if findings.heads is not None and scaler is not None:
        spectra, tabular = (scaler.restore(head) for head in findings.heads)
        findings = replace(findings, heads=(spectra, tabular))
    examined = ReportInput(
        outputs=outputs,
        classes=names.of_outputs(outputs),
        findings=findings,
        covariates=None if names.covariates is None else [str(n) for n in names.covariates],
        axis=None if names.axis is None else np.asarray(names.axis),
        axis_name=names.axis_name,
        inputs=inputs,
        scale=None if scaler is None else scaler.state_dict()["std"],
    )
    return examined, shap


def _explain(
    model: nn.Module, loader: AnyLoader, task: str, device: torch.device
) -> tuple[list[Explained], list[Explained], ExplainedInputs]:
    """By both methods in one pass: a loader may give its samples in another order next time."""
    # Of two classes the second one, of more the one that is predicted of each sample.
    target = 1 if task == "binary" else None
    explainers = [
        OutputsExplainer(
            model, target, method=method, max_samples=MOST_EXPLAINED, keep_intensities=number == 0
        )
        for number, method in enumerate((METHOD, SHAP_METHOD))
    ]
    covariates = []
    for batch in loader:
        moved = batch.to(device)
        for explainer in explainers:
            explainer.add(moved)
        covariates.append(batch.tabular.cpu())
        if explainers[0].full:
            break
    explained, shap = (explainer.explained() for explainer in explainers)
    intensities = explained[0].intensities
    assert intensities is not None
    scans = np.stack([own.mean(dim=0).numpy() for own in intensities])
    tabular = torch.cat(covariates)[: len(scans)].numpy()
    return explained, shap, ExplainedInputs(scans, tabular, scans.mean(axis=0), INTENSITY)
