from __future__ import annotations

import base64
import json
from dataclasses import replace

import numpy as np
import pytest

from experiments.analysis import decide
from experiments.config import ThresholdConfig
from experiments.report.report_payload import as_script, outcome_payload
from tests.experiments.report.made_outputs import NAMES, make_outputs


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
