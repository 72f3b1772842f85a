"""Whatever the batches, files list samples in the cohort's order."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from engine.explain import read_explained
from experiments.runs import Experiment
from handlers.attribution import FILE_NAME

pytestmark = pytest.mark.slow

BATCHING = {
    "plain": {"kind": "shuffle"},
    "buckets": {"kind": "bucket"},
    "packed buckets": {"kind": "bucket", "collate": "packed", "token_budget": 9 * 128},
}


@pytest.fixture
def tested(make_config):
    """An experiment that has measured untrained weights."""

    def of(batching, **changes):
        changes |= {"data.batching": batching, "audit.enabled": False}
        experiment = Experiment(make_config(**changes))
        experiment.setup()
        experiment.test()
        return experiment

    return of


@pytest.mark.parametrize("kind", BATCHING)
def test_predictions_are_in_the_cohort_s_order(make_config, kind):
    changes: dict[str, Any] = {"trainer.batch_size": 3, "trainer.max_epochs": 1}
    changes |= {"data.batching": BATCHING[kind], "audit.enabled": False}
    changes |= {"report.attribution": {"steps": 4}}
    experiment = Experiment(make_config(**changes))
    experiment.run()
    cohort, split = experiment.data.cohort, experiment.data.split
    expected = [n for n, side in zip(cohort.sample_ids, split, strict=True) if side == "test"]
    assert list(pd.read_csv(experiment.run_dir / "predictions.csv")["sample_id"]) == expected
    explained = read_explained(experiment.run_dir / "report" / FILE_NAME)
    assert explained.sample_id == expected


def test_what_is_kept_of_samples_follows_their_order(tested):
    plain, buckets = (tested(BATCHING[kind]) for kind in ("plain", "buckets"))
    as_loaded = buckets.tester.metrics.outputs.sample_id
    assert as_loaded != buckets.outputs["test"].sample_id  # or nothing is shown here
    assert plain.outputs["test"].sample_id == buckets.outputs["test"].sample_id
    assert torch.allclose(plain.outputs["test"].logits, buckets.outputs["test"].logits, atol=1e-5)
    a, b = plain.findings, buckets.findings
    assert torch.allclose(a.embedding, b.embedding, atol=1e-5)
    for ours, theirs in zip(a.scan_weights or (), b.scan_weights or (), strict=True):
        assert torch.allclose(ours, theirs, atol=1e-5)
    for ours, theirs in zip(a.explained[0].scans, b.explained[0].scans, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-4)


def test_explained_samples_do_not_depend_on_batches(tested):
    few = {"report.attribution": {"max_samples": 3}}
    named = [tested(BATCHING[kind], **few).findings.explained[0].sample_id for kind in BATCHING]
    assert named[0] == named[1] == named[2]
    assert len(named[0]) == 3
