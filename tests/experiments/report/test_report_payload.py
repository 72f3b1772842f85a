from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from engine.metrics import EpochOutputs
from experiments.analysis import decide
from experiments.config import ThresholdConfig
from experiments.report.report_payload import (
    FEWEST_POINTS,
    as_script,
    outcome_payload,
    pack_samples,
    worst_first,
)
from tests.experiments.report.made_outputs import NAMES, make_outputs
from tests.experiments.report.made_report import make_explained, make_source


def unpacked_scans(packed, name):
    """As the page's script unpacks them, [S, P]."""
    entry = packed["samples"][name]
    levels = np.frombuffer(base64.b64decode(entry["scans"]), np.uint8).astype(float)
    rows = levels.reshape(len(entry["low"]), -1)
    return np.array(entry["low"])[:, None] + np.array(entry["spread"])[:, None] * (rows / 255) ** 2


def unpacked_attribution(packed, name):
    entry = packed["samples"][name]["attributions"][0]
    levels = np.frombuffer(base64.b64decode(entry["scans"]), np.int8) / 127
    return entry["top"] * levels * np.abs(levels)


@pytest.fixture
def outputs() -> EpochOutputs:
    return make_outputs("binary")


def test_unpacked_intensities_are_within_a_hundredth(outputs):
    source = make_source(outputs, 200, 3)
    packed = pack_samples(source, outputs)
    assert packed["merged"] == 1
    assert packed["left_out"] == 0
    for name in outputs.sample_id:
        raw = source.spectra[source.scan_rows[name]]
        np.testing.assert_allclose(unpacked_scans(packed, name), raw, atol=raw.max() / 100)


def test_intensities_below_zero_come_back_too(outputs):
    source = make_source(outputs, 50, 1)
    source.spectra[:] -= 30
    packed = pack_samples(source, outputs)
    raw = source.spectra[source.scan_rows["s0"]]
    np.testing.assert_allclose(unpacked_scans(packed, "s0"), raw, atol=np.ptp(raw) / 100)


def test_small_attributions_survive_beside_large_ones(outputs):
    source = make_source(outputs, 60, 2)
    explained = make_explained(outputs, source)
    explained.scans[0][0, :2] = torch.tensor([40.0, 0.01])
    packed = pack_samples(source, outputs, [explained])
    found = unpacked_attribution(packed, "s0").reshape(explained.scans[0].shape)
    np.testing.assert_allclose(found, explained.scans[0], atol=40 / 100)
    assert found[0, 1] == pytest.approx(0.01, rel=0.5)
    assert packed["samples"]["s0"]["attributions"][0]["spectra_sum"] == pytest.approx(
        float(explained.scans[0].sum()), rel=1e-3
    )


def test_what_the_features_of_a_covariate_contribute_is_added_up(outputs):
    source = make_source(outputs, 20, 1)
    explained = make_explained(outputs, source)
    packed = pack_samples(source, outputs, [explained])
    given = explained.tabular[4]
    expected = [given[0] + given[1], given[2], given[3], given[4]]
    found = packed["samples"]["s4"]["attributions"][0]["covariates"]
    np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_packed_log_odds_are_of_the_positive_class(outputs):
    source = make_source(outputs, 20, 1)
    explained = replace(make_explained(outputs, source), score="log_odds")
    explained.target[0] = 0
    assert explained.change is not None
    turned = pack_samples(source, outputs, [explained])["samples"]["s0"]["attributions"][0]
    assert turned["target"] == 1
    assert turned["change"] == pytest.approx(-float(explained.change[0]), rel=1e-3)
    as_it_is = pack_samples(source, outputs, [replace(explained, score="logit")])["samples"]["s0"]
    assert as_it_is["attributions"][0]["target"] == 0


def test_a_regression_is_explained_in_its_targets_units():
    outputs = make_outputs("regression")
    source = make_source(outputs, 20, 1)
    explained = make_explained(outputs, source)
    assert explained.change is not None
    in_units = pack_samples(replace(source, scale=[2.0, 10.0]), outputs, [explained])
    found = in_units["samples"]["s0"]["attributions"][0]
    assert found["change"] == pytest.approx(10 * float(explained.change[0]), rel=1e-3)


def test_points_are_merged_to_fit_and_no_peak_is_lost(outputs):
    source = make_source(outputs, 2048, 2)
    explained = make_explained(outputs, source)
    whole = sum(2 * len(rows) for rows in source.scan_rows.values()) * 2048
    packed = pack_samples(source, outputs, [explained], budget=whole // 2)
    assert packed["merged"] == 2
    assert len(base64.b64decode(packed["axis"])) == 4 * 1024
    for name, part in zip(outputs.sample_id, explained.scans, strict=True):
        raw = source.spectra[source.scan_rows[name]]
        peaks = unpacked_scans(packed, name).max(axis=1)
        np.testing.assert_allclose(peaks, raw.max(axis=1), rtol=1e-3)
        # Attributions are added up, so that the sum stays what it was.
        entry = packed["samples"][name]["attributions"][0]
        assert entry["spectra_sum"] == pytest.approx(float(part.sum()), rel=1e-3, abs=1e-3)
        by_hand = part.numpy().reshape(len(part), 1024, 2).sum(axis=2)
        found = unpacked_attribution(packed, name).reshape(by_hand.shape)
        np.testing.assert_allclose(found, by_hand, atol=entry["top"] / 100)


def test_where_merging_is_not_enough_the_worst_samples_are_kept(outputs):
    source = make_source(outputs, 4 * FEWEST_POINTS, 1)
    packed = pack_samples(source, outputs, budget=10 * FEWEST_POINTS)
    worst = [outputs.sample_id[number] for number in worst_first(outputs)[:10]]
    assert list(packed["samples"]) == worst
    assert packed["merged"] == 4
    assert packed["left_out"] == len(outputs.sample_id) - 10


def test_scans_are_brought_onto_the_models_axis(outputs):
    source = make_source(outputs, 60, 2)
    half = replace(source, axis=source.axis[::2], place=lambda scans: scans[:, ::2])
    packed = pack_samples(half, outputs, [make_explained(outputs, half)])
    raw = source.spectra[source.scan_rows["s3"]][:, ::2]
    np.testing.assert_allclose(unpacked_scans(packed, "s3"), raw, atol=raw.max() / 100)


@pytest.mark.parametrize("task", sorted(NAMES))
def test_the_worst_sample_is_the_one_that_is_most_wrong(task):
    outputs = make_outputs(task)
    worst = int(worst_first(outputs)[0])
    if task == "regression":
        missed = (outputs.predictions - outputs.target).abs() / outputs.target.std(
            dim=0, unbiased=False
        )
        assert worst == int(missed.max(dim=1).values.argmax())
        return
    scores, target = outputs.probabilities, outputs.target
    if task == "multilabel":
        right = torch.where(target > 0, scores, 1 - scores).min(dim=1).values
    else:
        right = scores[torch.arange(len(target)), target]
    assert worst == int(right.argmin())


def test_a_score_that_is_no_number_is_as_wrong_as_can_be(outputs):
    outputs.logits[7] = float("nan")
    assert worst_first(outputs)[0] == 7


def decoded(text: str) -> np.ndarray:
    return np.frombuffer(base64.b64decode(text), "<f8")


@pytest.mark.parametrize("task", sorted(NAMES))
def test_scores_and_truth_arrive_exactly(task):
    outputs = make_outputs(task)
    payload = outcome_payload(outputs, NAMES[task])
    scores, target = decoded(payload["scores"]), decoded(payload["target"])
    np.testing.assert_array_equal(scores, outputs.scores.double().numpy().ravel())
    np.testing.assert_array_equal(target, outputs.target.double().numpy().ravel())


def test_what_can_be_ranked_has_its_operating_points():
    outputs = make_outputs("multiclass")
    decisions, _ = decide({"val": outputs, "test": outputs}, NAMES["multiclass"], ThresholdConfig())
    ranked = outcome_payload(outputs, NAMES["multiclass"], decisions)["ranked"]
    assert [found["name"] for found in ranked] == NAMES["multiclass"]
    for found in ranked:
        points = decisions[found["name"]]
        assert [point["rule"] for point in found["points"]] == [point.rule for point in points]
        assert found["points"][0]["test"] == dict(points[0].test)


def test_what_has_one_side_only_is_not_ranked():
    outputs = make_outputs("multilabel")
    outputs.target[:, 1] = 0
    ranked = outcome_payload(outputs, NAMES["multilabel"])["ranked"]
    assert [found["name"] for found in ranked] == ["liver", "lung"]


def test_scores_that_are_no_numbers_rank_nothing():
    outputs = make_outputs("binary")
    outputs.logits[0] = float("nan")
    assert outcome_payload(outputs, NAMES["binary"])["ranked"] == []
    assert outcome_payload(replace(outputs, task="regression"), NAMES["binary"])["ranked"] == []


def test_a_script_element_can_hold_any_text():
    names = ["</script>", "<!--", "line\u2028end", 'quo"te', "\u4e2d"]
    text = as_script({"names": names, "nan": float("nan"), "inf": float("inf")})
    assert "<" not in text
    assert "\u2028" not in text
    assert json.loads(text) == {"names": names, "nan": None, "inf": "inf"}
