"""The leaderboard in the terminal and in Markdown, and the verdict sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence

from engine.reporting import figure_text, figure_texts, p_text, with_bounds
from experiments.baselines.leaderboard import BEATS, LOSES, TOO_FEW, Leaderboard
from experiments.config import LATE_FUSION

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
SAME = {"auroc": "AUROC", "auprc": "AUPRC"}


def title_of(name: str) -> str:
    """A baseline's name in words; another model's name as it is."""
    return TITLES.get(name, name)


def verdict(found: Leaderboard) -> str:
    """Whether the network beats the best baseline, in one sentence without a final stop."""
    network, best, difference = found.network, found.best, found.difference
    title = title_of(best.name)
    ours, theirs = (figure_text(e.test.value, 3) for e in (network, best))
    _, low, high = figure_texts(difference, "+")
    # As many decimals as the bounds have.
    apart = f"{found.metric} {ours} against {theirs}, difference {_rounded(difference.value, low)}"
    if found.outcome == TOO_FEW:
        return (
            f"too few samples to tell whether {network.name} beats {title}: {apart} on the test set"
        )
    apart += f" ({low} to {high})"
    if found.outcome == BEATS:
        return f"{network.name} beats {title}: {apart}"
    if found.outcome == LOSES:
        return f"{network.name} does not beat {title}: {apart}"
    return f"{network.name} does not differ significantly from {title}: {apart}"


def _rounded(value: float, like: str) -> str:
    if math.isnan(value) or "e" in like or not like:
        return figure_text(value, 3, "+")
    return f"{round(value, len(like.partition('.')[2])) + 0.0:+.{len(like.partition('.')[2])}f}"


def leaderboard_rows(found: Leaderboard) -> list[tuple[str, str, str]]:
    """Model, validation and test (with interval) of the network and each baseline."""
    return [
        (title_of(entry.name), figure_text(entry.val), with_bounds(entry.test))
        for entry in (found.network, *found.baselines)
    ]


def about_leaderboard(found: Leaderboard) -> str:
    """How the baselines were fitted and compared."""
    told = (
        "Baselines are fitted to the training set of this run, with its transforms; the best one "
        "is chosen on the validation set."
    )
    if found.drawn is not None:
        told += f" They are fitted to {found.drawn} training samples, drawn by group."
    if not math.isnan(found.p_value):
        told += f" DeLong's test of the difference: p {_equals(p_text(found.p_value))}."
    return told


def _equals(p_value: str) -> str:
    return p_value if p_value.startswith("<") else f"= {p_value}"


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
    sentence = verdict(found)
    rows = "\n".join(f"| {name} | {val} | {test} |" for name, val, test in leaderboard_rows(found))
    return f"""## Baselines

{sentence[0].upper()}{sentence[1:]}. {about_leaderboard(found)}

| {found.metric} by model | validation | test |
|---|---|---|
{rows}
"""
