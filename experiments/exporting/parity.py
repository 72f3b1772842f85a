"""Whether an exported file predicts as the model does, on rows of the cohort."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch

from datasets.errors import UsageError
from experiments.builders import read_cohort
from experiments.exporting.formats import to_arrays, to_tensors
from experiments.exporting.graph import COVARIATES, LOGITS, MASK, SPECTRA, ScoredModel

if TYPE_CHECKING:
    from experiments.exporting.trained_model import TrainedModel

# Of the logits: |exported - own| / max(1, |own|). Probabilities: |exported - own|.
TOLERANCE = 1e-5
SAMPLES = 7
# Samples and scans of the batches beside that of the rows themselves; those of more than one of
# each are padded.
SHAPES = ((1, 1), (1, 5), (7, 1), (7, 5))


class Rows(NamedTuple):
    """Samples as a model sees them: scans [n, L] of each, covariates [N, D], and what they are."""

    scans: list[np.ndarray]
    tabular: np.ndarray
    source: str


def rows_of(trained: TrainedModel) -> Rows:
    """Some samples of the run's cohort, of its test set first; random ones if it cannot be read."""
    try:
        return _real_rows(trained)
    except (UsageError, OSError) as error:
        reason = " ".join(str(error).split())
    generator = np.random.default_rng(0)
    points, width = trained.sizes["spec_len"], trained.sizes["tab_dim"]
    counts = generator.integers(1, 4, SAMPLES)
    return Rows(
        [generator.standard_normal((n, points)).astype(np.float32) for n in counts],
        generator.standard_normal((SAMPLES, width)).astype(np.float32),
        f"{SAMPLES} random samples: the cohort cannot be read ({reason})",
    )


def _real_rows(trained: TrainedModel) -> Rows:
    cohort = read_cohort(trained.config.data)
    tested = [name in trained.tested for name in cohort.sample_ids]
    chosen = np.argsort(~np.array(tested), kind="stable")[:SAMPLES].tolist()
    scans = [np.zeros((1, 0), dtype=np.float32) for _ in chosen]
    if cohort.has_spectra:
        scans = [trained.transforms(cohort.spectra[cohort.scan_rows[n]]) for n in chosen]
    tabular = trained.encoder.transform(cohort.samples.iloc[chosen])
    of_test = sum(tested[n] for n in chosen)
    source = f"{len(chosen)} samples of the cohort {cohort.root.name}, {of_test} of its test set"
    return Rows(scans, tabular, source)


def make_batches(rows: Rows) -> list[dict[str, np.ndarray]]:
    """Batches of several shapes: the rows as they are, and of each of ``SHAPES``."""
    every = np.concatenate(rows.scans)
    batches = [_pad(rows.scans, rows.tabular)]
    for samples, most in SHAPES:
        counts = [most - n % most for n in range(samples)]  # the first has all, others fewer
        starts = np.cumsum([0, *counts])
        scans = [
            every[np.arange(start, start + count) % len(every)]
            for start, count in zip(starts, counts, strict=False)
        ]
        batches.append(_pad(scans, rows.tabular[np.arange(samples) % len(rows.tabular)]))
    return batches


def _pad(scans: Sequence[np.ndarray], tabular: np.ndarray) -> dict[str, np.ndarray]:
    mask = np.arange(max(map(len, scans))) < np.array([len(own) for own in scans])[:, None]
    spectra = np.zeros((*mask.shape, scans[0].shape[1]), dtype=np.float32)
    spectra[mask] = np.concatenate(scans)
    return {SPECTRA: spectra, MASK: mask, COVARIATES: np.ascontiguousarray(tabular)}


def own_outputs(
    trained: TrainedModel, batches: Sequence[Mapping[str, np.ndarray]]
) -> list[dict[str, np.ndarray]]:
    """The model's own scores of each batch."""
    scored = ScoredModel(trained).eval()
    with torch.no_grad():
        return [to_arrays(scored(**to_tensors(batch))) for batch in batches]


def largest_difference(
    own: Sequence[Mapping[str, np.ndarray]], exported: Sequence[Mapping[str, np.ndarray]]
) -> float:
    """The largest difference of exported outputs, relative where a number is above 1.

    UsageError if it is above ``TOLERANCE``, or an output is missing or no finite number.
    """
    worst = 0.0
    for expected, found in zip(own, exported, strict=True):
        for name, values in found.items():
            wanted = expected[name].astype(np.float64)
            if values.shape != wanted.shape or not np.isfinite(wanted).all():
                raise UsageError(
                    f"not exported: {name} of a batch of {len(wanted)} are {list(values.shape)}, "
                    f"{list(wanted.shape)} finite numbers were expected"
                )
            away = np.abs(values - wanted) / np.maximum(1.0, np.abs(wanted))
            worst = max(worst, float(np.nan_to_num(away, nan=np.inf).max()))
        assert LOGITS in found
    if worst > TOLERANCE:
        raise UsageError(
            f"not exported: outputs differ from the model's by {worst:.1e} of max(1, |output|); "
            f"at most {TOLERANCE:.0e} was expected"
        )
    return worst
