from __future__ import annotations

import torch

from datasets.audit import Finding
from engine.metrics import EpochOutputs
from engine.statistics import Interval
from experiments.analysis.cohort_audit import audit_summary, finding_number
from experiments.analysis.outcome import about_methods
from experiments.analysis.test_set import decide
from experiments.config import ThresholdConfig


def test_findings_are_counted_by_level():
    assert audit_summary([Finding("order", "warn", 0.9, "It does.")]) == "1 warning"
    assert audit_summary([]) == "nothing found"


def test_an_auroc_has_its_bounds():
    found = Finding("order", "warn", 0.9, "It does.", (0.8, 0.97))
    assert finding_number(found) == "0.90 (0.80 to 0.97)"


def test_methods_other_than_the_bootstrap_are_named():
    few = Interval(1.0, 0.63, 1.0, 50, "clopper_pearson")
    told = about_methods([{"recall": few}], "binary")[0]
    assert told.startswith("95% intervals of recall: Clopper and Pearson (1934),")


def test_the_threshold_is_chosen_on_validation():
    logits = torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 1.0], [1.0, 0.5]])
    outputs = EpochOutputs(logits, torch.tensor([0, 0, 1, 1]), list("abcd"), {})
    found, _ = decide({"val": outputs, "test": outputs}, ["no", "yes"], ThresholdConfig())
    point = found["yes"][0]
    assert (point.name, round(point.threshold, 2)) == ("youden", 0.32)
