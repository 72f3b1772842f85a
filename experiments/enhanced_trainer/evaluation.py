"""The results of an evaluation: arrays by sample, files, and the input of its pages."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ignite.engine import Events
from torch import nn

from datasets.errors import UsageError
from datasets.files import write_whole
from engine.evaluator import Evaluator
from engine.events import Phase
from engine.explain import Embeddings, Explained, OutputsExplainer
from engine.metrics import CLASSES, EpochOutputs, attention_weights, summarise_attention
from engine.reporting import as_json
from experiments.analysis import AnalysisCollector
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.learning_task import Names
from experiments.report.figures import ExplainedInputs, ReportInput
from experiments.report.text import class_figures
from experiments.runs import outputs_table


class CollectedSamples:
    """Keeps embeddings and attention weights of one evaluation, on the CPU."""

    phase = Phase.MEASURE

    def __init__(self) -> None:
        self._embeddings = Embeddings()
        self._attention: list[dict[str, np.ndarray]] = []

    def attach(self, evaluator: Evaluator) -> None:
        """Listen to the steps."""
        self._embeddings.attach(evaluator)
        evaluator.add_event_handler(Events.ITERATION_COMPLETED, self)

    def __call__(self, evaluator: Evaluator) -> None:
        """Keep the attention weights of one step, sample by sample: their scans may differ."""
        state = evaluator.state
        found = {n: w.float().cpu().numpy() for n, w in attention_weights(state.outputs).items()}
        self._attention += [
            {name: weights[row] for name, weights in found.items()}
            for row in range(len(state.batch.sample_id))
        ]

    def arrays(self, outputs: EpochOutputs) -> dict[str, Any]:
        """The N samples in the loader's order.

        ``sample_id``, N names; ``labels`` (class numbers [N], labels 0 or 1 [N, T], or values [N,
        T]), ``predictions`` likewise and, but of a regression, ``probabilities`` [N, C];
        ``embeddings`` [N, E] (:class:`engine.explain.Embeddings`); ``attention_weights``, name -> N
        arrays, each without the batch's dimension and with the scans that its batch was padded to.
        """
        names = dict.fromkeys(name for sample in self._attention for name in sample)
        arrays: dict[str, Any] = {
            "sample_id": list(outputs.sample_id),
            "labels": outputs.target.numpy(),
            "predictions": outputs.predictions.numpy(),
            "embeddings": self._embeddings.vectors.numpy(),
            "attention_weights": {n: [sample.get(n) for sample in self._attention] for n in names},
        }
        if outputs.task != "regression":
            arrays["probabilities"] = outputs.probabilities.numpy()
        return arrays


PREDICTIONS, REPORT = "predictions.csv", "classification_report"
ACCURACY = "accuracy"


def class_report(outputs: EpochOutputs, names: Sequence[str]) -> dict[str, Any]:
    """The figures of each class in the form of scikit-learn's ``classification_report``.

    Name of a class, ``macro avg`` or ``weighted avg`` -> ``precision``, ``recall``, ``f1-score``
    and ``support``, NaN where undefined (:func:`experiments.report.text.class_figures`); of classes
    also ``accuracy``.
    """
    table = class_figures(outputs, names)
    report: dict[str, Any] = dict(zip(table.index, table.to_dict("records"), strict=True))
    if outputs.task in CLASSES:
        report[ACCURACY] = float((outputs.predictions == outputs.target).double().mean())
    return report


def write_evaluation(folder: Path, outputs: EpochOutputs, names: Sequence[str]) -> None:
    """Write ``predictions.csv`` and ``classification_report.json``, ``.csv`` and ``.txt``."""
    samples = outputs_table(outputs, names, outputs.target.numpy())
    texts = {PREDICTIONS: samples.to_csv(index=False)}
    if outputs.task != "regression":
        table = class_figures(outputs, names)
        texts |= {
            f"{REPORT}.json": json.dumps(as_json(class_report(outputs, names)), indent=2) + "\n",
            f"{REPORT}.csv": table.to_csv(index_label="class"),
            f"{REPORT}.txt": table.to_string(float_format="%.4f", na_rep="undefined") + "\n",
        }
    try:
        for name, text in texts.items():
            write_whole(text.encode(), folder, name)
    except OSError as error:
        raise UsageError(f"cannot write to {folder}: {error.strerror}") from error


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

    ``kept`` listened during the evaluation that gave ``outputs``; the loader's scaler has the unit
    of a regression. Returns what pages are made of, with attributions by integrated gradients; and
    SHAP values of the same samples, empty unless ``explain``. Of several labels or values each is
    explained by itself.
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
    """Explain by both methods in one pass: a loader may change its order between passes."""
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
