"""The leaderboard in the terminal and in Markdown, and the verdict sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from datasets.messages import Message, sentences
from engine.reporting import figure_text, figure_texts, p_text, with_bounds
from engine.statistics import TOO_FEW
from experiments.baselines.choice import BEATS, LOSES, OPEN, UNTESTED
from experiments.config import LATE_FUSION

if TYPE_CHECKING:
    from experiments.baselines.leaderboard import Leaderboard

TITLES = {
    "spectra_logistic": "logistic regression on spectra",
    "spectra_pca_logistic": "PCA and logistic regression on spectra",
    "spectra_pls": "PLS on spectra",
    "spectra_svm": "linear SVM on spectra",
    "spectra_ridge": "ridge regression on spectra",
    "spectra_extra_trees": "extra trees on spectra",
    "covariates_logistic": "logistic regression on covariates",
    "covariates_ridge": "ridge regression on covariates",
    "covariates_extra_trees": "extra trees on covariates",
    "covariates_boosting": "gradient boosting on covariates",
    LATE_FUSION: "late fusion",
}

VERDICTS = {
    BEATS: "{} beats {}: {} {} against {}, difference {} ({} to {})",
    LOSES: "{} does not beat {}: {} {} against {}, difference {} ({} to {})",
    OPEN: "{} does not differ significantly from {}: {} {} against {}, difference {} ({} to {})",
    UNTESTED: (
        "{} and {} without a test (one group, or no resamples): {} {} against {}, difference {}"
    ),
    TOO_FEW: "too few samples to tell whether {} beats {}: {} {} against {}, difference {}",
}


def title_of(name: str) -> Message:
    """A baseline's name in words; another model's name as it is."""
    return Message(TITLES[name]) if name in TITLES else Message("{}", name)


def verdict(found: Leaderboard) -> Message:
    """Whether the network beats the best baseline, in one sentence without a final stop."""
    network, best, difference = found.network, found.best, found.difference
    ours, theirs = (figure_text(e.test.value, 3) for e in (network, best))
    _, low, high = figure_texts(difference, "+")
    # As many decimals as the bounds have.
    apart = _rounded(difference.value, low)
    bounds = [low, high] if low else []
    values = (network.name, title_of(best.name), found.metric, ours, theirs, apart, *bounds)
    return Message(VERDICTS[found.outcome], *values)


def _rounded(value: float, like: str) -> str:
    if math.isnan(value) or "e" in like or not like:
        return figure_text(value, 3, "+")
    return f"{round(value, len(like.partition('.')[2])) + 0.0:+.{len(like.partition('.')[2])}f}"


def leaderboard_rows(found: Leaderboard) -> list[tuple[str, str, str]]:
    """Model, validation and test (with interval) of the network and each baseline."""
    # The network may be called as a baseline is: late_fusion.
    entries = [(found.network.name, found.network)]
    entries += [(title_of(entry.name), entry) for entry in found.baselines]
    return [(name, figure_text(entry.val), with_bounds(entry.test)) for name, entry in entries]


def about_leaderboard(found: Leaderboard) -> Message:
    """How the baselines were fitted and compared."""
    told = [
        Message(
            "Baselines are fitted to the training set of this run, with its transforms; the best "
            "one is chosen on the validation set."
        )
    ]
    if found.refitted:
        told.append(
            Message(
                "For the test the network and the baselines are refitted to the training and "
                "validation sets."
            )
        )
    if found.drawn is not None:
        told.append(Message("They are fitted to {} training samples, drawn by group.", found.drawn))
    if not math.isnan(found.p_value):
        text = p_text(found.p_value)
        equals = text if text.startswith("<") else f"= {text}"
        told.append(Message("DeLong's test of the difference: p {}.", equals))
    return sentences(*told)


def leaderboard_lines(found: Leaderboard) -> list[str]:
    """Lines for the terminal."""
    rows: Sequence[Sequence[str]] = [
        (f"{found.metric} by model", "validation", "test"),
        *leaderboard_rows(found),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(3)]
    lines = [
        f"{name:<{widths[0]}}  {val:>{widths[1]}}  {test:<{widths[2]}}".rstrip()
        for name, val, test in rows
    ]
    if found.drawn is not None:
        lines.append(f"baselines are fitted to {found.drawn} training samples, drawn by group")
    return [*lines, f"verdict: {verdict(found)}"]


def leaderboard_section(found: Leaderboard) -> str:
    """A Markdown section for the summary and the card."""
    rows = "\n".join(f"| {name} | {val} | {test} |" for name, val, test in leaderboard_rows(found))
    return f"""## Baselines

Verdict: {verdict(found)}. {about_leaderboard(found)}

| {found.metric} by model | validation | test |
|---|---|---|
{rows}
"""
