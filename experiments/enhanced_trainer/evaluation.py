"""The results of an evaluation, or of several models compared: arrays, files and pages."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from ignite.engine import Events
from torch import nn
from torch.nn import functional

from datasets.errors import UsageError, file_errors
from datasets.files import write_whole
from engine.evaluator import Evaluator
from engine.events import Phase
from engine.explain import Embeddings, Explained, OutputsExplainer
from engine.metrics import (
    CLASSES,
    METRICS,
    TASKS,
    UNDEFINED,
    EpochOutputs,
    attention_weights,
    split_target,
    summarise_attention,
)
from engine.reporting import as_json, figure_text
from engine.statistics import Interval, delong_test
from experiments.analysis import AnalysisCollector
from experiments.comparison import metric_bars, write_comparison_files
from experiments.enhanced_trainer.any_loader import AnyLoader
from experiments.enhanced_trainer.default_training import Names
from experiments.report.figures import ExplainedInputs, ReportInput, Section
from experiments.report.text import class_figures
from experiments.run_files import outputs_table


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

        ``sample_id``; ``labels`` (class numbers [N], labels 0 or 1 [N, T], or values [N, T]),
        ``predictions`` likewise and, but of a regression, ``probabilities`` [N, C]; ``embeddings``
        [N, E]; ``attention_weights``, name -> N arrays, padded as the batches were.
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
    """:func:`class_figures` as a dict like scikit-learn's ``classification_report``'s.

    NaN where undefined; of classes also ``accuracy``.
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
    with file_errors(f"cannot write to {folder}"):
        for name, text in texts.items():
            write_whole(text.encode(), folder, name)


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
    SHAP values of the same samples, empty unless ``explain``.
    """
    device = next((parameter.device for parameter in model.parameters()), torch.device("cpu"))
    explained: list[Explained] = []
    shap: list[Explained] = []
    inputs = None
    if explain:
        explained, shap, inputs = _explain(model, loader, outputs.task, device)
    attention = summarise_attention(model, loader, device, MOST_EXPLAINED)
    examined = ReportInput(
        outputs=outputs,
        classes=names.of_outputs(outputs),
        findings=kept.findings(explained=explained, attention=attention),
        covariates=None if names.covariates is None else [str(n) for n in names.covariates],
        axis=None if names.axis is None else np.asarray(names.axis),
        axis_name=names.axis_name,
        inputs=inputs,
    )
    return examined.in_units_of(loader.scaler), shap


def _explain(
    model: nn.Module, loader: AnyLoader, task: str, device: torch.device
) -> tuple[list[Explained], list[Explained], ExplainedInputs]:
    """Explain by both methods in one pass: a loader may change its order between passes."""
    # Of two classes the second one, of more the one that is predicted of each sample.
    target = 1 if task == "binary" else None
    settings: dict[str, Any] = {"target": target, "max_samples": MOST_EXPLAINED}
    explainers = [
        OutputsExplainer(model, method=METHOD, keep_intensities=True, **settings),
        OutputsExplainer(model, method=SHAP_METHOD, keep_intensities=False, **settings),
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


BYTES_IN_MB = 10**6
# Parameters that belong to the model itself, not to one of its modules.
OWN = "(own)"


def summarise_model(model: nn.Module) -> dict[str, Any]:
    """Count parameters; one that several modules share is counted once, in the first of them.

    ``size_mb`` is of parameters and buffers, in 10^6 bytes; ``modules`` are those at the top.
    """
    modules: dict[str, dict[str, int]] = {}
    for name, parameter in model.named_parameters():
        top = name.partition(".")[0] if "." in name else OWN
        counts = modules.setdefault(top, {"parameters": 0, "trainable": 0})
        counts["parameters"] += parameter.numel()
        counts["trainable"] += parameter.numel() * parameter.requires_grad
    held = [*model.parameters(), *model.buffers()]
    size = sum(t.numel() * t.element_size() for t in held) / BYTES_IN_MB
    parameters, trainable = (
        sum(counts[what] for counts in modules.values()) for what in ("parameters", "trainable")
    )
    about = {"model": type(model).__name__, "parameters": parameters, "trainable": trainable}
    return {**about, "size_mb": size, "modules": modules}


P_VALUE = "delong_p"
ABOUT_MODEL = ("parameters", "trainable", "size_mb", "seconds")
Measure = Callable[[nn.Module], tuple[dict[str, float], EpochOutputs]]


def compare(
    models: Mapping[str, nn.Module], measure: Measure
) -> tuple[pd.DataFrame, dict[str, EpochOutputs]]:
    """Measure several models in the same way.

    Returns their outputs, and one row per model: its name, the ``loss`` (:func:`common_loss`), the
    metrics, its size, the ``seconds`` it took and, of two classes, ``delong_p`` of the difference
    in AUROC from the best.
    """
    if not models:
        raise UsageError("compare_models: there is no model to compare")
    rows: list[dict[str, Any]] = []
    outputs = {}
    for name, model in models.items():
        began = time.perf_counter()
        metrics, found = measure(model)
        seconds = time.perf_counter() - began
        outputs[name] = found
        # Each model's own loss has terms of its own: they cannot be compared.
        usual = TASKS[found.task].metrics
        named = {key: value for key, value in metrics.items() if split_target(key)[0] in usual}
        size = summarise_model(model)
        about = {key: size[key] for key in ABOUT_MODEL if key in size}
        row = {"model": name, "loss": common_loss(found), **named, **about, "seconds": seconds}
        rows.append(row)
    widths = {(found.task, found.logits.shape[1]) for found in outputs.values()}
    if len(widths) > 1:
        told = ", ".join(f"{n}: {o.task} [{o.logits.shape[1]}]" for n, o in outputs.items())
        raise UsageError(f"compare_models: the models are not of one task ({told})")
    table = pd.DataFrame(rows)
    if {found.task for found in outputs.values()} == {"binary"}:
        place = list(table.columns).index(ABOUT_MODEL[0])
        table.insert(place, P_VALUE, _against_the_best(outputs))
    return table, outputs


def _against_the_best(outputs: Mapping[str, EpochOutputs]) -> list[float]:
    """P-values of the AUROC's difference; undefined for the best itself, and with one class."""
    scores = [found.probabilities[:, 1] for found in outputs.values()]
    target = next(iter(outputs.values())).target
    areas = [METRICS["auroc"](found.scores, target) for found in outputs.values()]
    best = int(np.nanargmax(areas)) if not np.isnan(areas).all() else 0
    return [
        UNDEFINED if number == best else delong_test(scores[best], other, target).p_value
        for number, other in enumerate(scores)
    ]


def common_loss(outputs: EpochOutputs) -> float:
    """The loss that any model of a task can be compared by: cross-entropy, or squared errors.

    Of several targets, which may be in unlike units, those relative to each target's variance.
    """
    logits, target = outputs.logits.double(), outputs.target
    if outputs.task == "regression":
        missed = (outputs.predictions.double() - target.double()).square().mean(dim=0)
        if len(missed) > 1:
            missed = missed / target.double().var(dim=0, correction=0)
        return float(missed.mean())
    if outputs.task == "multilabel":
        return float(functional.binary_cross_entropy_with_logits(logits, target.double()))
    return float(functional.cross_entropy(logits, target))


def write_comparison(
    table: pd.DataFrame, outputs: Mapping[str, EpochOutputs], folder: Path, names: list[str]
) -> tuple[list[Path], str | None]:
    """:func:`experiments.comparison.write_comparison_files` of what :func:`compare` found."""
    first = next(iter(outputs.values()))
    metrics = [name for name in table.columns if name not in ("model", P_VALUE, *ABOUT_MODEL)]
    figures = {name: [Interval(value) for value in table[name]] for name in metrics}
    bars = Section("metrics", "Metrics", metric_bars(list(outputs), figures))
    cells = [list(table.columns), *([_cell(v) for v in row] for row in table.itertuples(False))]
    sections = [bars, Section("table", "All figures", table=cells)]
    about = f"{len(table)} models on the same {len(first.sample_id)} samples."
    return write_comparison_files(folder, table, about, sections, outputs, names)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return figure_text(value)
    return f"{value:,}" if isinstance(value, int) else str(value)
