"""The measures on models that are known to rest on the planted peaks, or on others."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from datasets.simulation import read_truth
from engine.explain import explain
from experiments.benchmarks.faithfulness import (
    AuditContext,
    draw_windows,
    first_of,
    mean_input,
    measure,
    planted_found,
    predicted_probabilities,
    read_subject,
    relative_gap,
    windows_around,
)
from experiments.builders import build_data
from experiments.config import find_named, load_config, write_yaml
from models import MODELS, MeanLinear
from tests.engine.attributed import Weighted, make_batch

SAMPLES = 300


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    overrides = [
        ("data.simulated.n_samples", str(SAMPLES)),
        ("data.cache_dir", str(tmp_path_factory.mktemp("cohorts"))),
        ("model", "{name: mean_linear}"),
    ]
    return load_config("tft_baseline", overrides)


@pytest.fixture(scope="module")
def data(config):
    return build_data(config)


@pytest.fixture(scope="module")
def truth(data):
    return read_truth(data.cohort.root)


def resting_on(data, places, directions):
    """A linear model of the intensities at some places."""
    model = MeanLinear(data.cohort.spec_len)
    with torch.no_grad():
        model.head.weight.zero_()
        model.head.bias.zero_()
        for window, direction in zip(
            windows_around(places, np.asarray(data.cohort.axis)), directions, strict=True
        ):
            middle = (window.start + window.stop) // 2
            model.head.weight[1, middle - 1 : middle + 2] = 0.5 * direction
    return model.eval()


@pytest.fixture(scope="module")
def subject(config, data, truth):
    planted = [peak.position for peak in truth.disease_peaks]
    other = [place for place in truth.peaks if place not in planted][:10]
    return AuditContext(
        config=config,
        data=data,
        model=resting_on(data, planted, [peak.direction for peak in truth.disease_peaks]),
        untrained=resting_on(data, other, [1] * len(other)),
        truth=truth,
        mean=mean_input(data),
    )


def test_a_model_that_rests_on_the_planted_peaks_is_found_out(subject):
    figures = measure(subject)
    assert figures.found == 8
    assert figures.untrained == 0
    assert figures.drop > 0.08
    assert figures.random_drop == pytest.approx(0, abs=0.02)
    assert figures.ratio > 5
    assert figures.gap < 1e-3
    assert figures.auroc > 0.7
    assert figures.seconds > 0
    assert figures.plain()["ratio"] == figures.ratio


def test_the_mean_input_is_what_standardised_scans_and_covariates_have(data):
    spectra, covariates = mean_input(data)
    assert spectra.shape == (data.cohort.spec_len,)
    assert spectra.abs().max() < 1e-3
    assert torch.equal(covariates, torch.from_numpy(data.datasets["train"].tabular.mean(axis=0)))


def test_replacing_a_window_puts_the_mean_there_in_every_scan_and_nowhere_else(subject):
    batch = next(iter(subject.data.loaders["test"]))
    window = windows_around([5000.0], np.asarray(subject.data.cohort.axis))[0]
    mean, seen = torch.arange(float(subject.data.cohort.spec_len)), []
    hook = subject.model.register_forward_pre_hook(lambda m, given: seen.append(given[0]))
    before = batch.spectra.clone()
    predicted_probabilities(subject.model, [batch], [window], mean)
    hook.remove()
    inside = torch.zeros(len(mean), dtype=torch.bool)
    inside[window.start : window.stop] = True
    assert (seen[0][..., inside] == mean[inside]).all()
    assert torch.equal(seen[0][..., ~inside], before[..., ~inside])
    assert torch.equal(batch.spectra, before)


def test_the_predicted_class_is_what_a_drop_is_of(subject):
    batches = list(subject.data.loaders["test"])
    before = predicted_probabilities(subject.model, batches)
    assert before.minus(before) == 0
    planted = [peak.position for peak in subject.truth.disease_peaks]
    windows = windows_around(planted, np.asarray(subject.data.cohort.axis))
    after = predicted_probabilities(subject.model, batches, windows, subject.mean[0])
    # Nothing is left to tell classes apart by.
    expected = (before.whole.max(dim=1).values - 0.5).mean()
    assert before.minus(after) == pytest.approx(float(expected), abs=1e-3)


def test_a_planted_peak_counts_once_and_only_where_a_window_holds_it(data, truth):
    axis, planted = np.asarray(data.cohort.axis), [peak.position for peak in truth.disease_peaks]
    assert planted_found(windows_around([*planted, planted[0]], axis), truth) == 8
    assert planted_found(windows_around(planted[:3], axis), truth) == 3
    assert planted_found([], truth) == 0


def test_drawn_windows_are_all_different_and_the_same_for_a_seed(data):
    windows = windows_around(range(3000, 15000, 1000), np.asarray(data.cohort.axis))
    drawn = list(draw_windows(windows, 6, 5, seed=1))
    assert [len({window.start for window in some}) for some in drawn] == [6] * 5
    again = list(draw_windows(windows, 6, 5, seed=1))
    assert [[w.start for w in some] for some in drawn] == [[w.start for w in s] for s in again]


def test_the_gap_is_held_against_the_change():
    found = explain(Weighted(), [make_batch(1)])
    assert relative_gap(found) < 1e-4
    assert np.isnan(relative_gap(explain(Weighted(), [make_batch(1)], method="saliency")))
    first = first_of(found, 2)
    assert first.change is not None
    assert len(first.scans) == len(first.change) == len(first.sample_id) == 2


def test_a_finished_runs_model_is_read_back_beside_one_that_learnt_nothing(
    config, data, subject, tmp_path
):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.yaml").write_text(write_yaml(config.plain()), "utf-8")
    rows = [
        f"{sample},{group},{side}"
        for sample, group, side in zip(
            data.cohort.sample_ids, data.cohort.groups, data.split, strict=True
        )
    ]
    (tmp_path / "splits.csv").write_text("\n".join(["sample_id,group,split", *rows]) + "\n")
    save_file(subject.model.state_dict(), tmp_path / "checkpoints" / "model.safetensors")
    before = torch.get_rng_state()
    read = read_subject(tmp_path)
    assert torch.equal(torch.get_rng_state(), before)
    weights = [one.state_dict()["head.weight"] for one in (subject.model, read.model)]
    assert torch.equal(*weights)
    assert type(read.untrained) is find_named("mean_linear", MODELS, "name")
    assert not torch.equal(read.untrained.state_dict()["head.weight"], weights[0])
    assert read.truth == subject.truth
