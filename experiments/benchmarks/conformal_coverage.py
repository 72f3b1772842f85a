"""How often prediction sets hold the truth: 20 simulated cohorts, by class and by group.

Usage: python experiments/benchmarks/conformal_coverage.py [--out FILE.html]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from sklearn.linear_model import LogisticRegression

from engine.metrics import EpochOutputs
from experiments.prediction import calibrate_sets
from experiments.report.figures import GUIDE, PALETTE, Section, write_figure_page

COHORTS, COVERAGE, MARGIN = 20, 0.9, 0.03
TRAINED, CALIBRATED, TESTED = 200, 150, 600  # patients
FEATURES, MOST_SAMPLES = 6, 6
ALL, BY_GROUP = "all samples", "each patient counted once"


def simulate(
    rng: np.random.Generator, patients: int, classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Features [N, D], classes [N] and patients [N]: one to six samples each, which are alike."""
    counts = rng.integers(1, MOST_SAMPLES + 1, patients)
    groups = np.repeat(np.arange(patients), counts)
    own = rng.normal(size=(patients, FEATURES))[groups]
    target = rng.integers(classes, size=len(groups))
    centres = 0.6 * np.linspace(-1, 1, classes)[target, None]
    features = centres + own + 0.7 * rng.normal(size=own.shape)
    return features, target, groups.astype(str)


def cover(seed: int, classes: int, coverage: float = COVERAGE) -> dict[str, float]:
    """One cohort's coverage: of each class, of all samples, and with patients counted once."""
    rng = np.random.default_rng(seed)
    features, target, _ = simulate(rng, TRAINED, classes)
    model = LogisticRegression().fit(features, target)
    features, target, groups = simulate(rng, CALIBRATED, classes)
    logits = torch.from_numpy(model.predict_log_proba(features))
    outputs = EpochOutputs(logits, torch.from_numpy(target), list(map(str, range(len(target)))), {})
    names = [f"class {number}" for number in range(classes)]
    sets = calibrate_sets(outputs, groups.tolist(), names, coverage)
    features, target, groups = simulate(rng, TESTED, classes)
    scores = model.predict_proba(features)
    covered = sets.covered(scores, target)
    found = {name: float(covered[target == number].mean()) for number, name in enumerate(names)}
    found[ALL] = float(covered.mean())
    found[BY_GROUP] = float(pd.Series(covered).groupby(groups).mean().mean())
    return found | {"classes in a set": float(sets.inside(scores).sum(axis=1).mean())}


def cover_all(classes: int, cohorts: int = COHORTS) -> pd.DataFrame:
    """One row per cohort."""
    return pd.DataFrame([cover(seed, classes) for seed in range(cohorts)])


def draw(table: pd.DataFrame) -> go.Figure:
    """One point per cohort, their means, and what was asked for."""
    figure = go.Figure()
    columns = [column for column in table if column != "classes in a set"]
    for name, values, style in (
        ("one cohort", table[columns], {"color": PALETTE[0], "size": 7, "opacity": 0.5}),
        ("mean", table[columns].mean().to_frame().T, {"color": PALETTE[1], "size": 14}),
    ):
        long = values.melt()
        figure.add_scatter(
            x=long["value"], y=long["variable"], mode="markers", name=name, marker=style
        )
    for place in (COVERAGE - MARGIN, COVERAGE, COVERAGE + MARGIN):
        figure.add_vline(x=place, line=GUIDE)
    figure.update_xaxes(title_text=f"coverage ({COVERAGE:g} asked for, margin {MARGIN:g})")
    return figure.update_yaxes(autorange="reversed", automargin=True)


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the mean coverage, and with ``--out`` draw it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, help="a page with the figures")
    options = parser.parse_args(arguments)
    sections = []
    for classes in (2, 3):
        table = cover_all(classes)
        print(f"{classes} classes, mean of {len(table)} cohorts")
        print(table.mean().round(4).to_string())
        heading = f"Coverage of {classes} classes"
        sections.append(Section(f"classes-{classes}", heading, draw(table)))
    if options.out:
        write_figure_page(options.out, "Coverage of prediction sets", "", sections)
    return 0


if __name__ == "__main__":
    sys.exit(main())
