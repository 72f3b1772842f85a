"""What the page's own scripts compute with, in what JSON can hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from markupsafe import Markup

from engine.metrics import CLASSES, EpochOutputs
from engine.reporting import as_json
from engine.statistics import OperatingPoint
from experiments.report.figures import ranked_scores
from experiments.report.report_samples import as_base64


def outcome_payload(
    outputs: EpochOutputs,
    names: Sequence[str],
    decisions: Mapping[str, Sequence[OperatingPoint]] | None = None,
) -> dict[str, Any]:
    """Scores and truth of N samples, exactly, and the thresholds that were chosen.

    Args:
        outputs: Of one side.
        names: Of the classes, the labels or the regression's targets.
        decisions: What is ranked -> operating points, the one to start from first.

    Returns:
        ``scores`` (probabilities [N, C] or predictions [N, T]) and ``target`` ([N] or [N, T]) in
        double precision; ``ranked``: what can be ranked, none of it where a score is not finite.
    """
    finite = bool(np.isfinite(outputs.scores.numpy()).all())
    ranked = []
    if outputs.task != "regression" and finite:
        for number, name, _, _ in ranked_scores(outputs, names):
            points = [
                {
                    "rule": point.rule,
                    "demand": point.demand,
                    "threshold": point.threshold,
                    "val": dict(point.val),
                    "test": dict(point.test),
                }
                for point in (decisions or {}).get(name, ())
            ]
            ranked.append({"number": number, "name": name, "points": points})
    return {
        "scores": as_base64(outputs.scores.double().numpy()),
        "target": as_base64(outputs.target.double().numpy()),
        "ranked": ranked,
        "finite": finite,
        "classes": outputs.task in CLASSES,
    }


def as_script(payload: Any) -> Markup:
    r"""JSON that can stand inside a script element.

    Example:
        >>> as_script({"name": "</script>", "threshold": float("nan")})
        Markup('{"name":"\\u003c/script>","threshold":null}')
    """
    text = json.dumps(as_json(payload), ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    # A "<" can only stand within a string there; escaped, it can end no element. Line separators
    # are whitespace to JSON's readers, but ends of lines to some editors.
    for sign in ("<", "\u2028", "\u2029"):
        text = text.replace(sign, f"\\u{ord(sign):04x}")
    return Markup(text)
