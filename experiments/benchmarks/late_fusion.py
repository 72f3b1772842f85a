"""Logistic-regression late fusion on the split of a run: what a network has to be held against.

``python experiments/benchmarks/late_fusion.py runs/tft_baseline [RUN ...]`` prints a table.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parents[2])

import numpy as np
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from datasets.batches import Sample
from datasets.errors import UsageError
from experiments.builders import Data, build_data
from experiments.config import load_config

# As many components as the cohorts' spectra were found to need; more overfit 300 patients.
COMPONENTS = 40
MAX_ITERATIONS = 5000


def late_fusion(data: Data) -> dict[str, float]:
    """Test AUROC of spectra alone, covariates alone and the sum of their logits.

    Spectra: the mean of a sample's transformed scans, principal components, logistic regression.
    Covariates: encoded as for the networks, logistic regression.

    Args:
        data: Two classes; everything is fitted on its training part.
    """
    if data.num_classes != 2:
        raise UsageError(f"late fusion is scored for two classes, not {data.num_classes}")
    parts = {side: np.array([s.target for s in _samples(data, side)]) for side in ("train", "test")}
    logits = {}
    for name, pick, model in (
        (
            "spectra",
            lambda s: s.spectra.mean(axis=0),
            make_pipeline(PCA(COMPONENTS, random_state=0), _logistic()),
        ),
        ("covariates", lambda s: s.tabular, _logistic()),
    ):
        sides = {
            side: np.stack([np.asarray(pick(s)) for s in _samples(data, side)]) for side in parts
        }
        model.fit(sides["train"], parts["train"])
        logits[name] = model.decision_function(sides["test"])
    logits["late fusion"] = logits["spectra"] + logits["covariates"]
    return {name: float(roc_auc_score(parts["test"], score)) for name, score in logits.items()}


def _samples(data: Data, side: str) -> Sequence[Sample]:
    dataset = data.datasets[side]
    dataset.augmentations = []  # the regression sees each sample once, as it is
    return dataset.__getitems__(range(len(dataset)))


def _logistic() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=MAX_ITERATIONS))


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row a run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", metavar="RUN", help="folders of runs")
    try:
        for number, run in enumerate(parser.parse_args(arguments).runs):
            config = load_config(str(Path(run) / "config.yaml"))
            scores = late_fusion(build_data(config, Path(run) / "splits.csv"))
            if number == 0:
                print(f"{'test AUROC':<28}" + "".join(f"{name:>14}" for name in scores))
            print(f"{Path(run).name:<28}" + "".join(f"{s:>14.4f}" for s in scores.values()))
    except UsageError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
