"""Data of the page's scripts: scores and truth, spectra and attributions."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from markupsafe import Markup
from torch import Tensor

from engine.explain import Explained
from engine.metrics import CLASSES, EpochOutputs
from engine.reporting import as_json
from engine.statistics import OperatingPoint
from experiments.analysis import ranked_scores

if TYPE_CHECKING:
    from experiments.report.report_content import SampleSource

# Of spectra and attributions together, before base64: with the plotting library (5 MB) a page so
# stays below 15 MB.
EXPLORER_BYTES = 6_000_000
# Points are merged to fit, down to so many; a screen is hardly wider.
FEWEST_POINTS = 512


def worst_first(outputs: EpochOutputs) -> np.ndarray:
    """The samples' numbers, the one that the model was most wrong about first, [N].

    By the true class's probability (of labels the lowest), or the error relative to the spread.
    """
    target = outputs.target.numpy()
    if outputs.task == "regression":
        spread = np.maximum(target.std(axis=0), np.finfo(np.float32).tiny)
        badness = (np.abs(outputs.predictions.numpy() - target) / spread).max(axis=1)
    else:
        scores = outputs.probabilities.numpy()
        if outputs.task == "multilabel":
            badness = 1 - np.where(target > 0, scores, 1 - scores).min(axis=1)
        else:
            badness = 1 - scores[np.arange(len(target)), target]
    # A score that is no number is as wrong as can be.
    return np.argsort(-np.nan_to_num(badness, nan=np.inf), kind="stable")


def pack_samples(
    source: SampleSource,
    outputs: EpochOutputs,
    explained: Sequence[Explained] = (),
    scan_weights: Sequence[Tensor] | None = None,
    budget: int = EXPLORER_BYTES,
) -> dict[str, Any]:
    """What the page knows of single samples, for JSON.

    Intensities are stored as the square root of their place between a scan's lowest and highest
    value (0 to 255), attributions as the signed square root of their share of the sample's largest
    (-127 to 127). Beyond the budget, in bytes, neighbouring points are merged: of intensities the
    largest is kept, so that no peak is lost, of attributions the sum. Where that is not enough, the
    samples that the model was least wrong about are left out.

    ``explained`` has one set per output; ``scan_weights`` are N of [S_i], as ``outputs``.
    """
    names = outputs.sample_id
    row_of = {n: i for i, n in enumerate(explained[0].sample_id)} if explained else {}
    order = [names[number] for number in worst_first(outputs)]
    known = [name for name in order if name in source.scan_rows]
    layers = np.array(
        [len(source.scan_rows[n]) * (1 + len(explained) * (n in row_of)) for n in known], int
    )
    merged, kept = _plan(layers, len(source.axis), budget)
    starts = np.arange(0, len(source.axis), merged)
    number_of = {name: number for number, name in enumerate(names)}
    packed = {}
    for name in known[:kept]:
        scans = np.asarray(source.spectra[source.scan_rows[name]])
        entry = _pack_scans(source.place(scans) if source.place else scans, starts)
        if name in row_of:
            row, task = row_of[name], outputs.task
            packed_sets = [_pack_attribution(one, row, starts, source, task) for one in explained]
            entry["attributions"] = packed_sets
        if scan_weights is not None:
            entry["weights"] = [_short(w) for w in scan_weights[number_of[name]].tolist()]
        packed[name] = entry
    axis = np.add.reduceat(np.asarray(source.axis, np.float64), starts)
    counts = np.diff(np.append(starts, len(source.axis)))
    return {
        "axis": as_base64((axis / counts).astype(np.float32)),
        "axis_name": source.axis_name,
        "points": len(source.axis),
        "merged": int(merged),
        "explained": len(row_of),
        "method": explained[0].method if explained else "",
        "score": explained[0].score if explained else "",
        "left_out": len(names) - len(packed),
        "covariates": list(source.covariates),
        "values": {name: list(source.values[name]) for name in packed} if source.values else {},
        "samples": packed,
    }


def as_base64(values: np.ndarray) -> str:
    """The bytes of an array, little-endian, as text."""
    little = np.ascontiguousarray(values, values.dtype.newbyteorder("<"))
    return base64.b64encode(little.tobytes()).decode("ascii")


def _plan(layers: np.ndarray, points: int, budget: int) -> tuple[int, int]:
    """Neighbouring points to merge, and samples to keep: a point of a row (layer) takes a byte."""
    most_merged = max(1, points // FEWEST_POINTS)
    for merged in range(1, most_merged + 1):
        if layers.sum() * -(-points // merged) <= budget:
            return merged, len(layers)
    fitting = np.cumsum(layers) * -(-points // most_merged) <= budget
    return most_merged, int(fitting.sum())


def _pack_scans(scans: np.ndarray, starts: np.ndarray) -> dict[str, Any]:
    merged = np.maximum.reduceat(np.asarray(scans, np.float64), starts, axis=1)  # [S, P]
    low = np.minimum(merged.min(axis=1), 0)
    spread = np.maximum(merged.max(axis=1) - low, np.finfo(np.float32).tiny)
    share = (merged - low[:, None]) / spread[:, None]
    return {
        "scans": as_base64(np.rint(255 * np.sqrt(share)).astype(np.uint8)),
        "low": [_short(value) for value in low.tolist()],
        "spread": [_short(value) for value in spread.tolist()],
    }


def _pack_attribution(
    explained: Explained, number: int, starts: np.ndarray, source: SampleSource, task: str
) -> dict[str, Any]:
    target = int(explained.target[number])
    unit = 1.0 if source.scale is None else source.scale[target]
    # The log-odds of two classes are each other's negative: all speak for the positive one.
    if task == "binary" and explained.score == "log_odds" and target == 0:
        target, unit = 1, -1.0
    parts = unit * explained.scans[number].double().numpy()
    merged = np.add.reduceat(parts, starts, axis=1)  # [S, P]
    top = max(float(np.abs(merged).max(initial=0)), float(np.finfo(np.float32).tiny))
    levels = np.rint(127 * np.sign(merged) * np.sqrt(np.abs(merged) / top)).astype(np.int8)
    given = unit * explained.tabular[number].double()
    owner = torch.as_tensor(source.feature_of, dtype=torch.long)
    known = {"change": explained.change, "gap": explained.gap}
    sums = {n: None if v is None else _short(unit * float(v[number])) for n, v in known.items()}
    zeros = torch.zeros(len(source.covariates), dtype=torch.double)
    of_covariates = zeros.index_add(0, owner, given)
    return {
        "target": target,
        "scans": as_base64(levels),
        "top": _short(top),
        "spectra_sum": _short(float(parts.sum())),
        "covariates": [_short(value) for value in of_covariates.tolist()],
        **sums,
    }


def _short(value: float) -> float | None:
    """With the digits that are shown; None for what is no number."""
    return float(f"{value:.5g}") if np.isfinite(value) else None


def outcome_payload(
    outputs: EpochOutputs,
    names: Sequence[str],
    decisions: Mapping[str, Sequence[OperatingPoint]] | None = None,
) -> dict[str, Any]:
    """Scores and truth of one subset, exactly, and the thresholds that were chosen.

    ``decisions``: what is ranked -> operating points, the one to start from first.
    """
    finite = not outputs.diverged
    ranked = []
    if outputs.task != "regression" and finite:
        for number, name, _, _ in ranked_scores(outputs, names):
            points = [asdict(point) for point in (decisions or {}).get(name, ())]
            ranked.append({"number": number, "name": name, "points": points})
    return {
        "scores": as_base64(outputs.scores.double().numpy()),
        "target": as_base64(outputs.target.double().numpy()),
        "ranked": ranked,
        "finite": finite,
        "classes": outputs.task in CLASSES,
    }


def as_script(payload: Any) -> Markup:
    r"""JSON that can stand inside a script element; NaN becomes null."""
    text = json.dumps(as_json(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A "<" can only stand within a string there; escaped, it can end no element. Line separators
    # are whitespace to JSON's readers, but ends of lines to some editors.
    for sign in ("<", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
