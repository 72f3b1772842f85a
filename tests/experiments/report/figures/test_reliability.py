from __future__ import annotations

import numpy as np
import pytest

from engine.statistics import calibrate
from experiments.report.figures.reliability import LARGEST, SMALLEST, reliability_section
from tests.experiments.report.made_outputs import NAMES, make_outputs


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
def test_both_sides_of_scaling_are_drawn_and_told_in_figures(task):
    outputs = make_outputs(task, 120)
    calibration = calibrate(outputs, outputs)
    assert calibration is not None
    section = reliability_section(calibration, task, NAMES[task])
    assert section.figure is not None
    assert section.table is not None
    _, before, after = section.figure.data
    np.testing.assert_array_equal(before.y, calibration.before.share)
    np.testing.assert_array_equal(after.x, calibration.after.confidence)
    assert np.max(before.marker.size) == LARGEST
    assert np.min(before.marker.size) >= SMALLEST
    assert f"validation set is {calibration.temperature:.3g}: " in section.text
    assert section.table[1] == (
        "expected calibration error",
        f"{calibration.before.ece:.4f}",
        f"{calibration.after.ece:.4f}",
    )


def test_it_says_of_which_probability_it_is():
    titles = {}
    for task in ("binary", "multiclass", "multilabel"):
        outputs = make_outputs(task)
        calibration = calibrate(outputs, outputs)
        assert calibration is not None
        section = reliability_section(calibration, task, ["<i>a</i>", "<i>b</i>"])
        assert section.figure is not None
        titles[task] = section.figure.layout.xaxis.title.text
    assert titles == {
        "binary": "predicted probability of &lt;i&gt;b&lt;/i&gt;",
        "multiclass": "probability of the most likely class",
        "multilabel": "predicted probability of a label",
    }
