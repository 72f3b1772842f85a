from __future__ import annotations

import pytest

from experiments.report.figures.outcomes import outcome_sections
from tests.experiments.report.made_outputs import NAMES, make_outputs


@pytest.mark.parametrize("task", sorted(NAMES))
def test_each_task_has_the_figures_that_fit_it(task):
    sections = outcome_sections(make_outputs(task), NAMES[task], "Test: ")
    expected = (
        ["predictions", "residuals"] if task == "regression" else ["ranking", "confusion", "scores"]
    )
    assert [section.name for section in sections] == expected
    assert all(section.figure is not None and section.figure.data for section in sections)
    assert all(section.heading.startswith("Test: ") for section in sections)
