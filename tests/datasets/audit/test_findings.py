from __future__ import annotations

import json

import numpy as np

from datasets.audit.findings import Finding, accept, sort_by_level

REFUSED = Finding(
    "label_leakage:stage", "refuse", np.float64(1.0), "stage is the label", (0.9, 1.0)
)
NOTED = Finding("counts:val", "note", 3, "3 samples")


def test_a_finding_survives_json():
    for found in (REFUSED, NOTED):
        assert Finding.from_plain(json.loads(json.dumps(found.plain()))) == found


def test_only_a_refusal_that_is_not_accepted_stops():
    assert REFUSED.stops
    assert not NOTED.stops
    assert not accept([REFUSED], ["label_leakage:stage"])[0].stops


def test_accepting_marks_what_is_named_and_leaves_the_rest():
    marked = accept([REFUSED, NOTED], ["counts:val", "of no such name"])
    assert [found.accepted for found in marked] == [False, True]


def test_the_gravest_comes_first_and_equals_keep_their_order():
    other = Finding("counts:test", "note", 1, "1 sample")
    assert sort_by_level([NOTED, other, REFUSED]) == [REFUSED, NOTED, other]
